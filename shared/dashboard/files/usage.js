// What the last 24 hours brought, hour by hour: a picture and a table of it.
import { act, alert, button, h, set, svg, uniqueId } from "/dashboard/dom.js";
import { explain, language, t } from "/dashboard/strings.js";

const counts = ["messages_in", "messages_out", "messages_failed", "deliveries", "deliveries_failed"];
const pictures = counts.slice(0, 4); // the failed deliveries stand in the table

const width = 240;
const height = 56;

export class Usage {
  #api;

  constructor({ api }) {
    this.#api = api;
    const title = uniqueId("usage");
    this.problem = alert();
    this.charts = h("div", { class: "charts" });
    this.table = h("table");
    this.refresh = button("quiet", t("deliveries.refresh"), () => act(this.refresh, () => this.read()));
    this.element = h("section", { class: "card usage", "aria-labelledby": title },
      h("div", { class: "title" }, h("h3", { id: title }, t("usage.title")), this.refresh),
      h("p", { class: "hint" }, t("usage.text")), this.problem, this.charts,
      h("details", null, h("summary", null, t("usage.table")),
        h("div", { class: "scrolls", tabindex: "0", role: "region", "aria-label": t("usage.table") }, this.table)));
  }

  async read() {
    try {
      const { data, total } = await this.#api.get("/v1/usage");
      this.charts.replaceChildren(...pictures.map((name) => chart(name, data, total[name])));
      this.table.replaceChildren(
        h("thead", null, h("tr", null, h("th", { scope: "col" }, t("usage.hour")), ...counts.map((name) => h("th", { scope: "col" }, t(`usage.${name}`))))),
        h("tbody", null, ...data.map((d) => h("tr", null, h("th", { scope: "row" }, hour(d.hour)), ...counts.map((name) => h("td", null, number(d[name])))))));
      set(this.problem, "");
    } catch (failure) {
      set(this.problem, explain(failure));
    }
  }
}

function number(n) {
  return new Intl.NumberFormat(language).format(n);
}

function hour(text) {
  return new Date(text).toLocaleTimeString(language, { hour: "2-digit", minute: "2-digit" });
}

// chart is one count over the hours. Who does not see it is told the most of it.
function chart(name, data, total) {
  const most = data.reduce((a, b) => (b[name] > a[name] ? b : a), data[0]);
  const label = t(`usage.${name}`);
  const says = total ? t("usage.says", { what: label, total: number(total), most: number(most[name]), hour: hour(most.hour) }) : t("usage.nothing", { what: label });
  const step = width / data.length;
  const bars = data.map((d, i) => {
    const tall = d[name] ? Math.max(2, (d[name] / most[name]) * height) : 0;
    return svg("rect", { x: i * step + 1, y: height - tall, width: step - 2, height: tall }, svg("title", {}, `${hour(d.hour)}: ${number(d[name])}`));
  });
  return h("figure", { "data-count": name },
    h("figcaption", null, label, " ", h("b", null, number(total))),
    svg("svg", { viewBox: `0 0 ${width} ${height + 1}`, role: "img", "aria-label": says, preserveAspectRatio: "none" },
      svg("path", { d: `M0 ${height + 0.5}H${width}` }), ...bars),
    h("p", { class: "axis", "aria-hidden": "true" }, h("span", null, hour(data[0].hour)), h("span", null, t("usage.now"))));
}
