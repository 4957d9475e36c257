element.addEventListener("click", (event) => {
  if (!event.target.closest(".duet-theme")) return;
  const dark = document.body.classList.toggle("dark");
  try { localStorage.setItem("duet-theme", dark ? "dark" : "light"); } catch (error) { /* private windows keep nothing */ }
});
