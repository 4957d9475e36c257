// The theme that was chosen last wins over that of the system, which Gradio follows.
window.addEventListener("load", () => {
  let chosen = null;
  try { chosen = localStorage.getItem("duet-theme"); } catch (error) { /* private windows keep nothing */ }
  if (!chosen) return;
  const apply = () => document.body && document.body.classList.toggle("dark", chosen === "dark");
  apply();
  setTimeout(apply, 300);
});
