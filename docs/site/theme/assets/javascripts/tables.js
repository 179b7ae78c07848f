// Tables that are wider than the page scroll. The keyboard can scroll them only if they take the focus;
// others do not take it, so that Tab does not stop there for nothing.
function update() {
  for (const around of document.querySelectorAll('.md-typeset__scrollwrap')) {
    if (around.scrollWidth > around.clientWidth) around.tabIndex = 0;
    else around.removeAttribute('tabindex');
  }
}

addEventListener('load', update);
addEventListener('resize', update);
