// A link from `staithe dashboard:login` has the code behind `#`, which browsers send to nobody: no
// log has it. The person still presses the button, so that a preview of the link does not use it up.
function fillIn() {
  const code = location.hash.slice(1);
  if (!/^stl_[\w-]+$/.test(code)) return;
  history.replaceState(null, "", location.pathname + location.search);
  const form = document.querySelector("form[data-code]");
  form.querySelector("[name=secret]").value = code;
  form.querySelector("button").focus();
  form.classList.add("ready");
}

fillIn();
// Who follows the link on this very page stays on it.
addEventListener("hashchange", fillIn);
