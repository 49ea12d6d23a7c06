// Code, outputs, tables, formulas and figures that are wider than the page scroll; here they can do so by keyboard, too.
const mark = () => document.querySelectorAll('pre, .math-wrapper, .math.display, .table-wrapper, .explorable > div').forEach(part => {
  if (part.scrollWidth > part.clientWidth) part.tabIndex = 0
  else part.removeAttribute('tabindex')
})
addEventListener('load', () => (window.MathJax?.startup?.promise ?? Promise.resolve()).then(() => document.fonts.ready).then(mark))
addEventListener('resize', mark)
