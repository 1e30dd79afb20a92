// A grid of any number of images: only the rows in sight exist, and their facts are fetched in
// pages. Everything that comes from a file or class name goes through textContent or setAttribute.
const PAGE = 200

export default function ({ data, parentElement, setTriggerValue }) {
  const frame = parentElement.querySelector(".frame")
  const note = parentElement.querySelector(".note")
  if (frame.dataset.source === data.source) return
  frame.dataset.source = data.source
  const cell = { width: 132, height: 164 }
  const pages = new Map()
  let total = null
  let chosen = null

  const inner = document.createElement("div")
  inner.className = "inner"
  frame.replaceChildren(inner)
  frame.scrollTop = 0
  frame.style.maxHeight = `${data.height}px`
  note.textContent = "Loading…"

  const columns = () => Math.max(2, Math.floor(frame.clientWidth / cell.width))

  const fetchPage = (number) => {
    if (pages.has(number)) return
    pages.set(number, null)
    const joint = data.source.includes("?") ? "&" : "?"
    fetch(`${data.source}${joint}offset=${number * PAGE}&limit=${PAGE}`)
      .then((answer) => (answer.ok ? answer.json() : Promise.reject(new Error(answer.status))))
      .then((found) => {
        if (frame.dataset.source !== data.source) return
        total = found.total
        pages.set(number, found.items)
        note.textContent = total === 0 ? data.empty : `${total.toLocaleString()} images`
        draw()
      })
      .catch(() => {
        pages.delete(number)
        note.textContent = "The images could not be loaded. Reload the page."
      })
  }

  const tile = (item, index) => {
    const button = document.createElement("button")
    button.className = "tile"
    button.type = "button"
    button.setAttribute("aria-label", `${item.title}, ${item.caption}`)
    button.title = `${item.title}\n${item.id}`
    const image = document.createElement("img")
    image.loading = "lazy"
    image.alt = ""
    image.src = item.src
    const title = document.createElement("span")
    title.textContent = item.title
    const caption = document.createElement("small")
    caption.textContent = item.caption
    button.append(image, title, caption)
    if (item.id === chosen) button.classList.add("chosen")
    button.style.left = `${(index % columns()) * (100 / columns())}%`
    button.style.width = `calc(${100 / columns()}% - 8px)`
    button.style.top = `${Math.floor(index / columns()) * cell.height}px`
    button.onclick = () => {
      chosen = item.id
      inner.querySelectorAll(".chosen").forEach((other) => other.classList.remove("chosen"))
      button.classList.add("chosen")
      setTriggerValue("chosen", item.id)
    }
    return button
  }

  const draw = () => {
    if (total === null) return
    inner.style.height = `${Math.ceil(total / columns()) * cell.height}px`
    const first = Math.max(0, Math.floor(frame.scrollTop / cell.height) - 1) * columns()
    const inSight = (Math.ceil(frame.clientHeight / cell.height) + 3) * columns()
    const tiles = []
    for (let index = first; index < Math.min(total, first + inSight); index++) {
      const items = pages.get(Math.floor(index / PAGE))
      if (items === undefined) fetchPage(Math.floor(index / PAGE))
      else if (items && items[index % PAGE]) tiles.push(tile(items[index % PAGE], index))
    }
    inner.replaceChildren(...tiles)
  }

  let waiting = false
  frame.onscroll = () => {
    if (waiting) return
    waiting = true
    requestAnimationFrame(() => {
      waiting = false
      draw()
    })
  }
  const observer = new ResizeObserver(draw)
  observer.observe(frame)
  fetchPage(0)
  return () => observer.disconnect()
}
