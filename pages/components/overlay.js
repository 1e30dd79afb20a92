// A picture with a heat map over it, and a slider for how strongly it shows.
export default function ({ data, parentElement }) {
  const [picture, heat] = parentElement.querySelectorAll("img")
  const slider = parentElement.querySelector("input")
  const note = parentElement.querySelector(".note")
  const show = () => { heat.style.opacity = slider.value }
  if (picture.getAttribute("src") !== data.picture) picture.src = data.picture
  if (heat.getAttribute("src") !== data.heat) { note.textContent = "Computing…"; heat.src = data.heat }
  picture.alt = data.alt
  heat.onload = () => { note.textContent = data.note }
  heat.onerror = () => { note.textContent = "The map could not be made. Does the dataset still exist?" }
  slider.oninput = show
  show()
}
