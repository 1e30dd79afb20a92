// Where each image of a grid lies. Groups (images that belong together) begin a row of their own,
// under a line of text; images without groups are one group with no text.
const HEADING = 36

function rowsOf(groups, columns, height) {
  const starts = [] // First image of each group.
  const tops = [] // Pixels from the top to each group.
  let images = 0
  let pixels = 0
  for (const group of groups) {
    starts.push(images)
    tops.push(pixels)
    images += group.size
    pixels += (group.text ? HEADING : 0) + Math.ceil(group.size / columns) * height
  }
  // The last of the sorted numbers that is not above a value.
  const lastUpTo = (numbers, value) => {
    let low = 0
    let high = numbers.length - 1
    while (low < high) {
      const middle = (low + high + 1) >> 1
      if (numbers[middle] <= value) low = middle
      else high = middle - 1
    }
    return low
  }
  const place = (index) => {
    const group = lastUpTo(starts, index)
    const within = index - starts[group]
    const heading = groups[group].text ? HEADING : 0
    const row = Math.floor(within / columns)
    return { group, row, column: within % columns, top: tops[group] + heading + row * height }
  }
  // The image one row further (step 1) or before (step -1), in the same column where there is one.
  const beside = (index, step) => {
    const { group, row, column } = place(index)
    const size = groups[group].size
    const rows = Math.ceil(size / columns)
    if (row + step >= 0 && row + step < rows) {
      return starts[group] + Math.min(size - 1, (row + step) * columns + column)
    }
    const other = groups[group + step]
    if (!other) return index
    const begin = step > 0 ? 0 : (Math.ceil(other.size / columns) - 1) * columns
    return starts[group + step] + Math.min(other.size - 1, begin + column)
  }
  // Images and headings between two heights.
  const inSight = (from, to) => {
    const found = { headings: [], first: images, end: 0 }
    for (let k = lastUpTo(tops, from); k < groups.length && tops[k] < to; k++) {
      if (groups[k].text) found.headings.push({ group: groups[k], top: tops[k] })
      const heading = groups[k].text ? HEADING : 0
      const above = Math.max(0, Math.floor((from - tops[k] - heading) / height))
      const below = Math.max(0, Math.ceil((to - tops[k] - heading) / height))
      found.first = Math.min(found.first, starts[k] + Math.min(groups[k].size, above * columns))
      found.end = Math.max(found.end, starts[k] + Math.min(groups[k].size, below * columns))
    }
    return found
  }
  return { images, pixels, place, beside, inSight }
}
