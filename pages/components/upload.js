// Streams a file to the server in pieces, each tried again after a lost connection, and reports
// its id when all of it has arrived.
const PIECE = 8 * 1024 * 1024
const TRIES = 30
const SECONDS_OF_SPEED = 10

const sleep = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds))
const size = (bytes) => (bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(2)} GB`)

const duration = (seconds) => {
  if (seconds < 90) return `${Math.ceil(seconds)} s`
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`
  return `${(seconds / 3600).toFixed(1)} h`
}

const newId = () => {
  const letters = "abcdefghjkmnpqrstuvwxyz023456789"
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (value) => letters[value % 32]).join("")
}

// How fast bytes arrived lately: what a whole upload averages says nothing after a pause.
const speedometer = () => {
  const seen = []
  return (offset) => {
    const now = performance.now() / 1000
    seen.push([now, offset])
    while (seen.length > 2 && now - seen[0][0] > SECONDS_OF_SPEED) seen.shift()
    const [before, from] = seen[0]
    return now > before ? Math.max(0, offset - from) / (now - before) : 0
  }
}

const progress = (offset, total, speed) => {
  const left = speed > 0 ? `, ${size(speed)}/s, about ${duration((total - offset) / speed)} left` : ""
  return `${size(offset)} of ${size(total)}${left}`
}

// How many bytes the server has; throws where no answer of its own comes, as from a proxy.
const arrived = async (url) => {
  const answer = await fetch(url)
  const { received } = await answer.json()
  if (!answer.ok || typeof received !== "number") throw new Error(answer.statusText)
  return received
}

// What was sent in part is kept by the server for a day; the browser remembers under which id, so
// that the same file goes on from there also after the page was closed.
const HOURS_KEPT = 24
const PREFIX = "headstart upload "
const keyOf = (file) => PREFIX + JSON.stringify([file.name, file.size, file.lastModified])

const remembered = () => {
  try {
    const keys = Object.keys(localStorage).filter((key) => key.startsWith(PREFIX))
    const found = keys.map((key) => ({ key, ...JSON.parse(localStorage.getItem(key)) }))
    const old = found.filter(({ since }) => Date.now() - since > HOURS_KEPT * 3600e3)
    old.forEach(({ key }) => localStorage.removeItem(key))
    return found.filter((one) => !old.includes(one))
  } catch { return [] } // A browser that keeps nothing.
}

const remember = (file, url) => {
  try { localStorage.setItem(keyOf(file), JSON.stringify({ url, since: Date.now() })) } catch { /* It keeps nothing. */ }
}

const forget = (key) => { try { localStorage.removeItem(key) } catch { /* It keeps nothing. */ } }

// One tab at a time sends a file; null where another one does. (Browsers know such locks only of
// this machine's server and over https.)
const alone = (key, work) => (navigator.locks ? navigator.locks.request(key, { ifAvailable: true }, (lock) => lock && work()) : work())
const beingSent = async () => (navigator.locks ? (await navigator.locks.query()).held.map(({ name }) => name) : [])

// The newest upload that was left unfinished: what is known of it, and how much has arrived.
const unfinished = async () => {
  const elsewhere = await beingSent()
  for (const { key, url } of remembered().sort((a, b) => b.since - a.since)) {
    const [name, total] = JSON.parse(key.slice(PREFIX.length))
    const place = await arrived(url)
    if (!place) forget(key) // It was imported, or given up.
    else if (place < total && !elsewhere.includes(key)) return { name, total, place }
  }
  return undefined
}

export default function ({ parentElement, setTriggerValue }) {
  const input = parentElement.querySelector("input")
  const area = parentElement.querySelector("label")
  const bar = parentElement.querySelector("progress")
  const note = parentElement.querySelector(".note")
  const cancel = parentElement.querySelector(".cancel")
  const again = parentElement.querySelector(".again")

  const warn = (event) => event.preventDefault()
  const show = (working) => {
    bar.hidden = cancel.hidden = !working
    again.hidden = true
    if (working) window.addEventListener("beforeunload", warn)
    else window.removeEventListener("beforeunload", warn)
  }
  const end = (text) => { show(false); note.textContent = text }

  // One piece; where to go on, or undefined if the server says no and means it.
  const sendPiece = async (file, url, offset, signal) => {
    const answer = await fetch(`${url}?offset=${offset}&total=${file.size}`, {
      method: "PUT", body: file.slice(offset, offset + PIECE), signal,
    })
    const found = await answer.json()
    if (answer.ok && typeof found.received === "number") return found.received
    // A piece that came twice, or after another connection went on: the server knows the place.
    const place = await arrived(url)
    if (place !== offset && place <= file.size) return place
    const words = `${found.what ?? "The server refused the upload."} ${found.remedy ?? ""}`
    if (found.kind === "ArchiveRefused") { // The file itself: no more of it is wanted.
      forget(keyOf(file))
      fetch(url, { method: "DELETE" })
      end(words)
    } else pause(file, url, words)
    return undefined
  }

  const send = async (file, url = `/api/uploads/${newId()}`, start = 0) => {
    const abort = new AbortController()
    const speed = speedometer()
    let offset = start
    let failures = 0
    remember(file, url)
    cancel.onclick = () => {
      abort.abort()
      forget(keyOf(file))
      end("The upload was cancelled.")
      fetch(url, { method: "DELETE" })
    }
    show(true)
    speed(offset)
    while (offset < file.size) {
      try {
        offset = await sendPiece(file, url, offset, abort.signal)
        if (offset === undefined) return
        failures = 0
        bar.value = offset / file.size
        note.textContent = progress(offset, file.size, speed(offset))
      } catch {
        if (abort.signal.aborted) return
        failures += 1
        if (failures > TRIES) { pause(file, url); return }
        note.textContent = `The connection was lost at ${size(offset)}; trying again…`
        await sleep(Math.min(10000, 500 * failures))
        try { offset = await arrived(url) } catch { /* Still lost. */ }
      }
    }
    end(`${file.name} has arrived.`)
    setTriggerValue("arrived", { id: url.split("/").pop(), name: file.name })
  }

  // Nothing of what has arrived is lost for a day.
  const pause = (file, url, words = "The connection is lost.") => {
    note.textContent = `${words} What has arrived is kept for a day; then go on.`
    again.hidden = false
    again.onclick = async () => {
      again.hidden = true
      try { await send(file, url, await arrived(url)) } catch { pause(file, url) }
    }
  }

  const take = (files) => {
    if (!cancel.hidden) { note.textContent = "One file at a time: cancel this one first."; return }
    if (files.length !== 1) { note.textContent = "Drop one file: a zip or a tar. To upload a folder, pack it first."; return }
    if (files[0].size === 0) { note.textContent = "That file is empty."; return }
    goOn(files[0])
  }

  // From where an earlier visit to the page left off, if there was one.
  const goOn = async (file) => {
    const sent = await alone(keyOf(file), async () => { await resume(file); return true })
    if (!sent) note.textContent = "This file is being sent in another tab."
  }

  const resume = async (file) => {
    const url = remembered().find(({ key }) => key === keyOf(file))?.url
    let place = 0
    try { place = url ? await arrived(url) : 0 } catch { pause(file, url); return }
    await (place > 0 && place <= file.size ? send(file, url, place) : send(file))
  }
  if (!parentElement.asked && cancel.hidden) {
    parentElement.asked = true // Of the server, once a visit and not at each change of the page.
    unfinished().then((left) => {
      if (!left || !cancel.hidden) return
      note.textContent = `${left.name} was sent in part (${size(left.place)} of ${size(left.total)}): choose it again to go on.`
    }).catch(() => { /* The server is away; it will be asked when a file is chosen. */ })
  }
  input.onchange = () => { if (input.files.length) take(input.files); input.value = "" }
  area.ondragover = (event) => { event.preventDefault(); area.classList.add("over") }
  area.ondragleave = () => area.classList.remove("over")
  area.ondrop = (event) => { event.preventDefault(); area.classList.remove("over"); take(event.dataTransfer.files) }
}
