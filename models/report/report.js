"use strict";
// Draws the live figures of a report from the JSON in the page. A figure is drawn when it comes into
// view. Without this script, and on paper, the page shows its still figures.
(() => {
  const data = JSON.parse(document.getElementById("report-data").textContent);
  const colours = data.colours;
  const isTouch = matchMedia("(pointer: coarse)").matches;
  const GAP = -32768, SCALE = 10000, NEAR_PX = "300px";

  function unpack(text, Numbers) {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    if (Numbers === Uint8Array) return bytes;
    const size = Numbers.BYTES_PER_ELEMENT, view = new DataView(bytes.buffer);
    const read = size === 2 ? "getInt16" : "getInt32";
    return Array.from({ length: bytes.length / size }, (_, k) => view[read](k * size, true));
  }
  const fractions = (text) => unpack(text, Int16Array).map((v) => (v === GAP ? null : v / SCALE));

  const config = {
    responsive: true,
    displaylogo: false,
    displayModeBar: isTouch ? true : "hover",
    modeBarButtons: [["zoomIn2d", "zoomOut2d", "pan2d", "resetScale2d"]],
    scrollZoom: false,
  };

  function drawChart(place, chart) {
    const dragmode = isTouch ? false : "zoom"; // on a phone, a finger scrolls the page
    return Plotly.newPlot(place, chart.data, { dragmode, ...chart.layout }, config);
  }

  // panels from top to bottom, with their heights in px, on one axis of time
  function panelsOf(clip) {
    const panels = [["valence", 110], ["arousal", 110]];
    if (Object.keys(clip.gate).length) panels.push(["gate", 70]);
    for (const name of Object.keys(clip.attention?.shares ?? {})) panels.push([name, 80]);
    if (clip.missing.sound.length || clip.missing.labels.length) panels.push(["missing", 24]);
    return panels;
  }

  function box(spans, low, high) {
    const x = [], y = [];
    for (const [a, b] of spans) {
      x.push(a, a, b, b, a, null);
      y.push(low, high, high, low, low, null);
    }
    return { x, y };
  }

  function drawClip(place, clip) {
    const time = unpack(clip.time_ms, Int32Array).map((ms) => ms / 1000);
    const panels = panelsOf(clip), gap = 12, foot = 40, head = 8;
    const height = panels.reduce((sum, [, px]) => sum + px + gap, 0);
    const traces = [];
    const layout = {
      height: height + foot + head,
      margin: { l: 52, r: 8, t: head, b: foot },
      font: { family: data.font, size: 12, color: colours.ink },
      paper_bgcolor: "#fff",
      plot_bgcolor: "#fff",
      showlegend: false,
      dragmode: isTouch ? false : "zoom",
      hovermode: "x unified",
      hoversubplots: "axis",
      hoverlabel: { font: { size: 12 } },
      shapes: [],
      annotations: [],
      xaxis: {
        title: { text: "time (s)", standoff: 6 },
        anchor: panels.length > 1 ? `y${panels.length}` : "y",
        range: [time[0], time[time.length - 1]],
        hoverformat: ".2f",
        ticks: "outside",
        showgrid: false,
        zeroline: false,
        showspikes: true,
        spikemode: "across",
        spikethickness: 1,
        spikedash: "solid",
        spikecolor: colours.ink,
        spikesnap: "cursor",
      },
    };
    let top = height;
    panels.forEach(([name, px], k) => {
      const number = k ? String(k + 1) : "", yaxis = `y${number}`;
      const axis = {
        domain: [(top - px) / height, top / height],
        fixedrange: true,
        zeroline: false,
        gridcolor: colours.faint,
        title: { text: name, standoff: 4, font: { size: 12 } },
      };
      top -= px + gap;
      layout[`yaxis${number}`] = axis;
      const line = (values, name, more) => ({
        type: "scatter", mode: "lines", x: time, y: values, name, yaxis, connectgaps: false,
        hovertemplate: "%{y:.3f}", ...more,
      });
      const silent = { hoverinfo: "skip", hovertemplate: undefined };
      const filled = (spans, low, high, colour) => ({
        type: "scatter", mode: "lines", fill: "toself", fillcolor: colour, line: { width: 0 },
        yaxis, hoverinfo: "skip", ...box(spans, low, high),
      });
      if (name === "valence" || name === "arousal") {
        Object.assign(axis, { range: [-1.06, 1.06], tickvals: [-1, 0, 1] });
        if (clip.missing.face.length) {
          traces.push(filled(clip.missing.face, -1.06, 1.06, colours.face));
        }
        if (clip.values[`lowest ${name}`]) {
          const band = { line: { width: 0 } };
          const low = fractions(clip.values[`lowest ${name}`]);
          const high = fractions(clip.values[`highest ${name}`]);
          traces.push(line(low, "lowest seed", band));
          traces.push(line(high, "highest seed", {
            ...band, fill: "tonexty", fillcolor: "rgba(0, 114, 178, .25)",
          }));
        }
        traces.push(line(fractions(clip.values[`truth ${name}`]), `${name}: truth`, {
          line: { color: colours.truth, width: 2.4 },
        }));
        traces.push(line(fractions(clip.values[`predicted ${name}`]), `${name}: prediction`, {
          line: { color: colours.predicted, width: 1.3 },
        }));
      } else if (name === "gate") {
        Object.assign(axis, { range: [0, 1], tickvals: [0, 1] });
        Object.entries(clip.gate).forEach(([stream, values], n) => {
          traces.push(line(fractions(values), `gate: ${stream}`, {
            line: {
              color: data.lines[n % data.lines.length],
              dash: ["solid", "dash", "dot"][n % 3],
              width: 1.3,
            },
          }));
        });
      } else if (name === "missing") {
        Object.assign(axis, { range: [0, 2], showticklabels: false, showgrid: false });
        axis.title.text = "";
        traces.push(filled(clip.missing.sound, 1, 1.9, colours.sound));
        traces.push(filled(clip.missing.labels, 0, 0.9, colours.labels));
      } else {
        const own = clip.attention.shares[name], times = clip.attention.time_s;
        const shades = unpack(own.shades, Uint8Array);
        const z = data.lags_s.map((_, row) => Array.from(
          shades.subarray(row * times.length, (row + 1) * times.length),
          (shade) => (shade / 255) * own.most,
        ));
        axis.title.text = "lag (s)";
        traces.push({
          type: "heatmap", x: times, y: data.lags_s, z, yaxis, showscale: false,
          colorscale: data.shades, zmin: 0, zmax: own.most, name,
          hovertemplate: `${name}: %{z:.1%} at a lag of %{y:.1f} s<extra></extra>`,
        });
        layout.annotations.push({
          xref: "paper", yref: `${yaxis} domain`, x: 0, y: 1, xanchor: "left", yanchor: "top",
          showarrow: false, text: name, bgcolor: "rgba(255,255,255,.75)", font: { size: 11 },
        });
      }
    });
    return Plotly.newPlot(place, traces, layout, config).then((plot) => {
      if (clip.pictures) followPointer(place, plot, clip.pictures);
      return plot;
    });
  }

  // the picture that is nearest in time, above the pointer
  function followPointer(place, plot, pictures) {
    const strip = document.createElement("div"), picture = document.createElement("div");
    const text = document.createElement("span");
    strip.className = "pictures";
    picture.className = "picture";
    picture.setAttribute("role", "img");
    picture.style.width = `${pictures.width_px}px`;
    picture.style.backgroundImage = `url("${pictures.sheet}")`;
    strip.append(picture, text);
    place.before(strip);
    const show = (time, x) => {
      const far = pictures.time_s.map((at) => Math.abs(at - time));
      const nearest = far.indexOf(Math.min(...far));
      picture.style.backgroundPositionX = `${-nearest * pictures.width_px}px`;
      text.textContent = `frame at ${pictures.time_s[nearest].toFixed(1)} s`;
      picture.setAttribute("aria-label", text.textContent);
      const most = strip.clientWidth - pictures.width_px - text.offsetWidth - 8;
      strip.style.paddingLeft = `${Math.max(0, Math.min(x - pictures.width_px / 2, most))}px`;
    };
    show(pictures.time_s[0], 0);
    plot.on("plotly_hover", (event) => {
      const axis = plot._fullLayout.xaxis, time = event.xvals?.[0] ?? event.points[0].x;
      show(time, axis._offset + axis.d2p(time));
    });
  }

  const drawn = new Map();
  function draw(figure) {
    if (drawn.has(figure)) return;
    const place = figure.querySelector(".live"), name = figure.dataset.live;
    figure.classList.add("is-live");
    const clip = data.clips[name];
    const done = clip ? drawClip(place, clip) : drawChart(place, data.charts[name]);
    drawn.set(figure, done.then(() => figure.classList.add("is-drawn")));
  }
  const seen = new IntersectionObserver(
    (entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => draw(entry.target)),
    { rootMargin: NEAR_PX },
  );
  document.querySelectorAll("figure[data-live]").forEach((figure) => seen.observe(figure));
})();
