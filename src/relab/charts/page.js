"use strict";
(() => {
  const specs = JSON.parse(document.getElementById("specs").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  const config = () => {
    const style = getComputedStyle(document.documentElement);
    const ink = style.getPropertyValue("--ink").trim();
    const line = style.getPropertyValue("--line").trim();
    const text = { labelColor: ink, titleColor: ink };
    return {
      background: "transparent",
      font: "system-ui, sans-serif",
      axis: { ...text, gridColor: line, domainColor: line, tickColor: line, labelFontSize: 12, titleFontSize: 12 },
      legend: text,
      header: text,
      title: { color: ink },
      rule: { color: ink },
      text: { color: ink },
      view: { stroke: line },
    };
  };

  const draw = () => {
    document.querySelectorAll("[data-chart]").forEach((place) => {
      const options = {
        mode: "vega-lite",
        // The interpreter of expressions: the page allows no code that is made of text.
        ast: true,
        renderer: "svg",
        actions: { export: true, source: false, compiled: false, editor: false },
        config: config(),
      };
      vegaEmbed(place, specs[Number(place.dataset.chart)], options).catch((error) => {
        place.textContent = `This chart cannot be drawn (${error.message}); its table has the same figures.`;
      });
    });
  };

  dark.addEventListener("change", draw);
  draw();
})();
