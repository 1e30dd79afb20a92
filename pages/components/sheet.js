// A contact sheet by URL; a click opens it in full size.
export default function ({ data, parentElement }) {
  const sheet = parentElement.querySelector("img")
  const note = parentElement.querySelector(".note")
  if (sheet.getAttribute("src") === data.source) return
  note.textContent = `Computing ${data.count} maps…`
  sheet.hidden = true
  sheet.onload = () => { sheet.hidden = false; note.textContent = data.note }
  sheet.onerror = () => { note.textContent = "The sheet could not be made. Does the dataset still exist?" }
  sheet.alt = data.note
  parentElement.querySelector("a").href = data.source
  sheet.src = data.source
}
