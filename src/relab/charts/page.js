"use strict";
(() => {
  const specs = JSON.parse(document.getElementById("specs").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const narrow = window.matchMedia("(max-width: 47rem)");
  // The room that vega-embed keeps free for the menu beside a chart.
  const MENU_PX = 38;

  const config = () => {
    const style = getComputedStyle(document.documentElement);
    const ink = style.getPropertyValue("--ink").trim();
    const line = style.getPropertyValue("--line").trim();
    const text = { labelColor: ink, titleColor: ink };
    return {
      background: "transparent",
      font: "system-ui, sans-serif",
      axis: { ...text, gridColor: line, domainColor: line, tickColor: line, labelFontSize: 12, titleFontSize: 12 },
      legend: narrow.matches ? { ...text, orient: "bottom", direction: "vertical" } : text,
      header: text,
      title: { color: ink },
      rule: { color: ink },
      text: { color: ink },
      view: { stroke: line },
    };
  };

  // On a narrow screen a chart takes the width of its row. A grid of charts keeps its width, and scrolls; so does a
  // chart with a wide column for its labels, which would leave no room for the marks.
  const fitted = (spec, place) => {
    if (!narrow.matches || typeof spec.width !== "number") return spec;
    const room = place.closest(".chart-row").clientWidth - MENU_PX;
    if ((spec.encoding?.y?.axis?.labelPadding ?? 0) > room / 2) return spec;
    return { ...spec, width: Math.min(room, spec.width), autosize: { type: "fit-x", contains: "padding" } };
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
      vegaEmbed(place, fitted(specs[Number(place.dataset.chart)], place), options).catch((error) => {
        place.textContent = `This chart cannot be drawn (${error.message}); its table has the same figures.`;
      });
    });
  };

  dark.addEventListener("change", draw);
  narrow.addEventListener("change", draw);
  draw();
})();
