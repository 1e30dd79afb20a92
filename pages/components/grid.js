// A grid of any number of images: only the rows in sight exist. Where the page offers actions,
// images can be selected, and the actions are taken with buttons or letters; the selection itself
// stays in the browser until then.
const CELL = { width: 132, height: 164 }
const grids = new WeakMap()

export default function ({ data, parentElement, setTriggerValue }) {
  if (!grids.has(parentElement)) grids.set(parentElement, gridIn(parentElement))
  const grid = grids.get(parentElement)
  grid.show(data, setTriggerValue)
  return grid.stop
}

function gridIn(root) {
  const find = (selector) => root.querySelector(selector)
  const frame = find(".frame")
  const inner = find(".inner")
  const ask = find(".ask")
  const answer = ask.querySelector("input")

  let data = { actions: [] }
  let tell = () => {} // Says something to the page.
  let images = null
  let groups = []
  let choosable = 0 // How many images there are, without those that are there to be compared with.
  let rows = rowsOf([], 1, CELL.height)
  let active = 0 // Where the keyboard is.
  let anchor = 0 // Where a range begins.
  let busy = false // The page has not answered yet.
  let asked = null // The action that waits for a class.
  const selected = new Set()

  const picks = () => data.actions.length > 0
  const columns = () => Math.max(2, Math.floor(frame.clientWidth / CELL.width))
  const bounded = (index) => Math.min(rows.images - 1, Math.max(0, index))
  // Images that are there to be compared with only are not chosen.
  const idAt = (index) => [images.at(index)].filter((item) => item && !item.aside).map((item) => item.id)
  const say = (text) => { find(".note").textContent = text }

  // --- drawing -----------------------------------------------------------------------------

  const arrange = () => {
    rows = rowsOf(groups, columns(), CELL.height)
    inner.style.height = `${rows.pixels}px`
    active = bounded(active)
  }

  const placed = (index) => {
    const item = images.at(index)
    if (!item) { images.need(index); return [] }
    const state = { active: index === active, selected: selected.has(item.id) }
    const tile = tileOf(item, index, rows.images, state)
    const { column, top } = rows.place(index)
    const share = 100 / columns()
    Object.assign(tile.style, {
      left: `${column * share}%`, width: `calc(${share}% - 8px)`, top: `${top}px`,
    })
    tile.onclick = (event) => clicked(event, index)
    if (picks()) {
      tile.ondblclick = open
      const zoom = (event) => { event.stopPropagation(); active = index; open() }
      tile.append(cornerOf("check", "Select", null), cornerOf("zoom", "Open", zoom))
    }
    return [tile]
  }

  const draw = () => {
    if (!groups.length) return
    const [from, to] = [frame.scrollTop - CELL.height, frame.scrollTop + frame.clientHeight + CELL.height]
    const { headings, first, end } = rows.inSight(from, to)
    const tiles = Array.from({ length: Math.max(0, end - first) }, (_, k) => placed(first + k))
    inner.replaceChildren(...headings.map((one) => headingOf(one, take)), ...tiles.flat())
    if (find(`#tile-${active}`)) frame.setAttribute("aria-activedescendant", `tile-${active}`)
    else frame.removeAttribute("aria-activedescendant")
  }

  const tally = () => {
    const all = choosable === 1 ? "1 image" : `${choosable.toLocaleString()} images`
    const some = `${selected.size.toLocaleString()} of ${all} selected`
    say(choosable === 0 ? data.empty : selected.size ? some : all)
    find(".none").disabled = !selected.size
    find(".all").disabled = selected.size === choosable
    for (const button of root.querySelectorAll(".tools .actions button")) {
      button.disabled = busy || !selected.size
    }
  }

  const bringIntoSight = () => {
    const { top } = rows.place(active)
    const lowest = top + CELL.height + 16 - frame.clientHeight
    frame.scrollTop = Math.max(lowest, Math.min(frame.scrollTop, Math.max(0, top - HEADING)))
  }

  // --- selecting ---------------------------------------------------------------------------

  const clicked = (event, index) => {
    active = index
    if (!picks()) choose()
    else if (event.shiftKey) selectRange(index)
    else toggle(index)
    draw()
  }

  const toggle = (index) => {
    for (const id of idAt(index)) {
      if (!selected.delete(id)) selected.add(id)
    }
    anchor = index
    tally()
  }

  const select = (ids) => {
    for (const id of ids.filter(Boolean)) selected.add(id)
    tally()
    draw()
  }

  const selectRange = async (index) => {
    const [from, to] = [Math.min(anchor, index), Math.max(anchor, index)]
    select((await images.names()).slice(from, to + 1))
  }

  const selectAll = async () => select(await images.names())
  const clear = () => { selected.clear(); select([]) }

  // Where nothing can be selected, a click says to the page which image it was.
  const choose = () => {
    for (const tile of inner.children) tile.classList.toggle("chosen", tile.id === `tile-${active}`)
    for (const id of idAt(active)) tell("chosen", id)
  }

  // --- acting ------------------------------------------------------------------------------

  const act = (action, names, label) => {
    if (busy || !names.length) return
    busy = true
    tally()
    say("Saving…")
    large.close()
    tell("done", { action: action.name, names, label, revision: data.revision })
  }

  const take = (offer) => act({ name: offer.action }, offer.names, offer.label)

  const begin = (action, names) => {
    if (!names.length) return
    if (!action.asks) { act(action, names, ""); return }
    large.close()
    asked = { action, names }
    find(".ask span").textContent = `${action.asks} (${names.length.toLocaleString()})`
    answer.value = (names.length === 1 && images.at(active)?.probable) || answer.value
    ask.hidden = false
    answer.focus()
    answer.select()
  }

  const stopAsking = () => { ask.hidden = true; frame.focus() }
  find(".stop").onclick = stopAsking
  ask.onsubmit = (event) => {
    event.preventDefault()
    const label = answer.value.trim()
    if (!label) return
    stopAsking()
    act(asked.action, asked.names, label)
  }
  ask.onkeydown = (event) => {
    event.stopPropagation() // Letters typed here are text, for us and for the page.
    if (event.key === "Escape") stopAsking()
  }

  const letter = (event, names) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return false
    const action = data.actions.find((one) => one.key === event.key.toLowerCase())
    if (action) { event.preventDefault(); begin(action, names) }
    return Boolean(action)
  }

  const large = largeView(find("dialog"), {
    step: async (by) => {
      active = bounded(active + by)
      await images.need(active)
      open()
    },
    letter: (event) => letter(event, idAt(active)),
    closed: () => { if (ask.hidden) frame.focus() },
  })

  const open = () => {
    const item = images.at(active)
    if (!picks() || !item?.large) { choose(); return }
    bringIntoSight()
    draw()
    large.show(item)
  }

  // --- the keyboard ------------------------------------------------------------------------

  const pageful = () => columns() * Math.max(1, Math.floor(frame.clientHeight / CELL.height))
  const MOVES = {
    ArrowRight: () => active + 1,
    ArrowLeft: () => active - 1,
    ArrowDown: () => rows.beside(active, 1),
    ArrowUp: () => rows.beside(active, -1),
    PageDown: () => active + pageful(),
    PageUp: () => active - pageful(),
    Home: () => 0,
    End: () => rows.images - 1,
  }
  const KEYS = {
    Enter: () => open(),
    " ": () => { if (picks()) toggle(active); else choose() },
    Escape: clear,
  }

  const move = (event) => {
    const extends_ = event.shiftKey && picks()
    if (extends_ && !selected.size) anchor = active
    active = bounded(MOVES[event.key]())
    bringIntoSight()
    if (extends_) selectRange(active)
  }

  frame.onkeydown = (event) => {
    if (!rows.images) return
    const all = (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "a" && picks()
    if (all) selectAll()
    else if (MOVES[event.key]) move(event)
    else if (KEYS[event.key]) KEYS[event.key]()
    else if (!letter(event, selected.size ? [...selected] : idAt(active))) return
    event.preventDefault()
    event.stopPropagation() // Streamlit has letters of its own.
    draw()
  }

  find(".all").onclick = selectAll
  find(".none").onclick = clear

  let waiting = false
  frame.onscroll = () => {
    if (waiting) return
    waiting = true
    requestAnimationFrame(() => { waiting = false; draw() })
  }
  const observer = new ResizeObserver(() => { arrange(); draw() })
  observer.observe(frame)

  // --- what the page wants shown -------------------------------------------------------------

  const offer = () => {
    find(".tools").hidden = find(".keys").hidden = !picks()
    frame.setAttribute("aria-multiselectable", picks())
    const buttons = (names) => data.actions.map((one) => actionButton(one, () => begin(one, names())))
    find(".tools .actions").replaceChildren(...buttons(() => [...selected]))
    find("dialog .actions").replaceChildren(...buttons(() => idAt(active)))
    find("datalist").replaceChildren(...(data.classes ?? []).map((name) => new Option(name, name)))
  }

  const load = () => {
    const mine = sourceOf(data, (found, total) => {
      if (mine !== images) return
      groups = found ?? groups
      choosable = total
      arrange()
      draw()
      tally()
    }, () => { if (mine === images) say("The images could not be loaded. Reload the page.") })
    images = mine
    selected.clear()
    images.need(0)
  }

  const toTop = () => {
    active = anchor = frame.scrollTop = 0
    groups = []
    inner.replaceChildren()
    say("Loading…")
  }

  const show = (wanted, setTriggerValue) => {
    const former = data
    data = wanted
    tell = setTriggerValue
    frame.style.maxHeight = `${data.height}px`
    if (former.turn !== data.turn) busy = false
    offer()
    // After a correction the list is another one at the same place: do not jump.
    if (former.place !== data.place) toTop()
    if (former.source !== data.source || `${former.names}` !== `${data.names}`) load()
    else tally()
  }

  return { show, stop: () => observer.disconnect() }
}
