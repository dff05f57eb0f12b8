// Runs before the first paint: says that scripts run, and puts back the theme the reader chose.
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  let kept = null;
  try { kept = localStorage.getItem("matinee-theme"); } catch { /* storage is closed to this page: the system's scheme holds */ }
  if (kept === "light" || kept === "dark") root.dataset.theme = kept;
})();
