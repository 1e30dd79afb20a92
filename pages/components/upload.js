// Streams a file to the server in pieces, each tried again after a lost connection, and reports
// its id when all of it has arrived.
const PIECE = 8 * 1024 * 1024
const TRIES = 30

const sleep = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds))
const size = (bytes) => (bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(2)} GB`)

export default function ({ parentElement, setTriggerValue }) {
  const input = parentElement.querySelector("input")
  const area = parentElement.querySelector("label")
  const bar = parentElement.querySelector("progress")
  const note = parentElement.querySelector(".note")
  const cancel = parentElement.querySelector(".cancel")

  const send = async (file) => {
    const letters = "abcdefghjkmnpqrstuvwxyz023456789"
    const random = crypto.getRandomValues(new Uint8Array(16))
    const id = Array.from(random, (value) => letters[value % 32]).join("")
    const url = `/api/uploads/${id}`
    let offset = 0
    let failures = 0
    let stopped = false
    const abort = new AbortController()
    cancel.onclick = () => { stopped = true; abort.abort() }
    bar.hidden = cancel.hidden = false
    const began = performance.now()
    while (offset < file.size && !stopped) {
      try {
        const answer = await fetch(`${url}?offset=${offset}&total=${file.size}`, {
          method: "PUT", body: file.slice(offset, offset + PIECE), signal: abort.signal,
        })
        const found = await answer.json()
        if (answer.ok) { offset = found.received; failures = 0 }
        else if (answer.status === 422 && failures < 3 && offset > 0) {
          failures += 1
          offset = (await (await fetch(url)).json()).received
        } else {
          note.textContent = `${found.what ?? "The server refused the upload."} ${found.remedy ?? ""}`
          bar.hidden = cancel.hidden = true
          return
        }
      } catch {
        if (stopped) break
        failures += 1
        if (failures > TRIES) { note.textContent = "The connection was lost for too long. Try again."; return }
        note.textContent = "The connection was lost; trying again…"
        await sleep(Math.min(10000, 500 * failures))
        try { offset = (await (await fetch(url)).json()).received } catch { continue }
      }
      const seconds = (performance.now() - began) / 1000
      const speed = offset / Math.max(seconds, 0.001)
      bar.value = offset / file.size
      note.textContent = `${size(offset)} of ${size(file.size)}, ${size(speed)}/s, ${Math.ceil((file.size - offset) / speed)} s left`
    }
    bar.hidden = cancel.hidden = true
    if (stopped) {
      note.textContent = "The upload was cancelled."
      fetch(url, { method: "DELETE" })
      return
    }
    note.textContent = `${file.name} has arrived.`
    setTriggerValue("arrived", { id, name: file.name })
  }

  const take = (files) => {
    if (files.length !== 1) { note.textContent = "Drop one file: a zip or a tar. To upload a folder, pack it first."; return }
    if (files[0].size === 0) { note.textContent = "That file is empty."; return }
    send(files[0])
  }
  input.onchange = () => { if (input.files.length) take(input.files); input.value = "" }
  area.ondragover = (event) => { event.preventDefault(); area.classList.add("over") }
  area.ondragleave = () => area.classList.remove("over")
  area.ondrop = (event) => { event.preventDefault(); area.classList.remove("over"); take(event.dataTransfer.files) }
}
