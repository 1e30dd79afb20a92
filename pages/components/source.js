// The images that a page wants shown, fetched in pages as they are needed: those of an address, or
// those that the page names itself.
const PAGE = 200

function sourceOf({ source, names }, arrived, failed) {
  const pages = new Map()
  let all = names

  const ask = async (parameters, chosen) => {
    const joint = source.includes("?") ? "&" : "?"
    const options = chosen && {
      method: "POST", body: JSON.stringify(chosen), headers: { "Content-Type": "application/json" },
    }
    const reply = await fetch(`${source}${joint}${new URLSearchParams(parameters)}`, options)
    if (!reply.ok) throw new Error(reply.status)
    return reply.json()
  }

  const need = async (index) => {
    const number = Math.floor(index / PAGE)
    if (pages.has(number)) return
    pages.set(number, [])
    const offset = number * PAGE
    const chosen = names?.slice(offset, offset + PAGE)
    try {
      const found = await ask(chosen ? {} : { offset, limit: PAGE }, chosen)
      pages.set(number, found.items)
      const whole = [{ size: names?.length ?? found.total, text: "", offers: [] }]
      arrived(number > 0 ? null : found.groups ?? whole, names?.length ?? found.total)
    } catch {
      pages.delete(number)
      failed()
    }
  }

  return {
    at: (index) => (pages.get(Math.floor(index / PAGE)) ?? [])[index % PAGE],
    need,
    // The ids of all images, in order; null in the place of one that cannot be selected.
    names: async () => (all ??= (await ask({ names: true })).names),
  }
}
