// One image of a grid, and the line above a group. Everything that comes from a file or class name
// goes through textContent or setAttribute.
function element(tag, className, text = "") {
  const made = document.createElement(tag)
  made.className = className
  made.textContent = text
  return made
}

function tileOf(item, index, total, { active, selected }) {
  const tile = element("div", "tile")
  tile.id = `tile-${index}`
  tile.title = `${item.title}\n${item.id}`
  tile.classList.toggle("active", active)
  tile.classList.toggle("aside", Boolean(item.aside))
  const facts = {
    role: "option", "aria-label": `${item.title}, ${item.caption}`, "aria-selected": selected,
    "aria-disabled": Boolean(item.aside), "aria-posinset": index + 1, "aria-setsize": total,
  }
  for (const [name, value] of Object.entries(facts)) tile.setAttribute(name, value)
  const image = element("img", "")
  image.loading = "lazy"
  image.alt = ""
  image.src = item.src
  tile.append(image, element("span", "", item.title), element("small", "", item.caption))
  return tile
}

// For the mouse and the finger only; Space and Enter do the same on the keyboard.
function cornerOf(name, title, act) {
  const corner = element("b", name)
  corner.title = title
  corner.setAttribute("aria-hidden", "true")
  corner.onclick = act
  return corner
}

// The line above a group: what it is, and corrections of all of it that one click makes.
function headingOf({ group, top }, take) {
  const line = element("div", "heading")
  const text = element("span", "", group.text)
  text.title = group.text
  const buttons = group.offers.map((offer) => {
    const button = element("button", "", offer.title)
    button.type = "button"
    button.onclick = () => take(offer)
    return button
  })
  line.append(text, ...buttons)
  line.style.top = `${top}px`
  return line
}

function actionButton(action, act) {
  const button = element("button", "", action.title)
  button.type = "button"
  button.title = action.help
  button.append(element("kbd", "", action.key))
  button.onclick = act
  return button
}
