// One image of a grid, large, with the ones before and after it and the same actions.
function largeView(dialog, { step, letter, closed }) {
  const find = (selector) => dialog.querySelector(selector)
  const close = () => dialog.close()
  find(".before").onclick = () => step(-1)
  find(".after").onclick = () => step(1)
  find(".close").onclick = close
  dialog.onclick = (event) => { if (event.target === dialog) close() }
  dialog.onclose = closed
  const STEPS = { ArrowLeft: -1, ArrowRight: 1 }
  dialog.onkeydown = (event) => {
    event.stopPropagation() // Escape closes it by itself.
    if (STEPS[event.key]) step(STEPS[event.key])
    else letter(event)
  }
  return {
    close,
    show: (item) => {
      find("img").src = item.large
      find("img").alt = item.id
      find(".facts").textContent = item.facts
      if (!dialog.open) dialog.showModal()
    },
  }
}
