// What there is beside an instance's state: how it came to it, its settings, a
// check of numbers, and its groups. Each part is read when it is opened.
import { act, alert, button, field, h, set, uniqueId } from "/dashboard/dom.js";
import { describe } from "/dashboard/log.js";
import { who } from "/dashboard/message.js";
import { dateTime, duration, explain, phone, t } from "/dashboard/strings.js";

const states = "instance.created,instance.updated,instance.connected,instance.disconnected,instance.failed";

// part is a section that is closed until somebody opens it; read fills it, and
// may fail.
function part(title, read) {
  const problem = alert();
  const body = h("div", { class: "inside" });
  const details = h("details", { class: "card part", toggle: () => { if (details.open) again(); } }, h("summary", null, h("h3", null, title)), problem, body);
  const again = async () => {
    try {
      await read(body, again);
      set(problem, "");
    } catch (failure) {
      set(problem, explain(failure));
    }
  };
  return details;
}

// tools are the parts of an instance.
export function tools({ api, id }) {
  const path = `/v1/instances/${id}`;
  return [
    part(t("timeline.title"), (body) => timeline(api, id, body)),
    part(t("settings.title"), (body) => settings(api, path, body)),
    part(t("check.title"), (body) => { if (!body.firstChild) body.append(numberCheck(api, path)); }),
    part(t("groups.title"), (body) => groups(api, path, id, body)),
  ];
}

async function timeline(api, id, body) {
  const { data } = await api.get(`/v1/event-log?${new URLSearchParams({ instance_id: id, events: states, limit: 100 })}`);
  // How long each state lasted is until the next one was told.
  let until = api.now();
  body.replaceChildren(h("ol", { class: "timeline" }, ...data
    .filter((e) => e.event !== "instance.updated" || e.data.changed?.includes("status"))
    .map((e) => {
      const from = Date.parse(e.occurred_at);
      const lasted = duration(until - from);
      until = from;
      return h("li", null, h("time", { datetime: e.occurred_at }, dateTime(e.occurred_at)), h("span", null, describe(e)), h("span", { class: "since" }, t("detail.for", { duration: lasted })));
    })), data.length ? "" : h("p", { class: "note" }, t("log.empty")));
}

async function settings(api, path, body) {
  const now = await api.get(`${path}/settings`);
  const check = (on, label) => {
    const input = h("input", { id: uniqueId("setting"), type: "checkbox", checked: Boolean(on) });
    return { input, element: h("div", { class: "check" }, input, h("label", { htmlFor: input.id }, label)) };
  };
  const groups = check(now.receive.groups, t("settings.groups"));
  const status = check(now.receive.status, t("settings.status"));
  const channels = check(now.receive.channels, t("settings.channels"));
  const reject = check(now.reject_calls, t("settings.reject"));
  const read = check(now.read_on_receive, t("settings.read"));
  const online = check(now.online, t("settings.online"));
  const media = h("select", { id: uniqueId("setting") }, ...["fetch", "on_demand", "off"].map((m) => h("option", { value: m }, t(`settings.media.${m}`))));
  media.value = now.media;
  const gap = h("input", { id: uniqueId("setting"), type: "number", min: "0", value: String(now.min_gap_ms) });
  const chats = h("input", { id: uniqueId("setting"), type: "number", min: "0", value: now.new_chats_per_day === null ? "" : String(now.new_chats_per_day) });
  const problem = alert();
  const result = h("p", { class: "result", role: "status" });
  const save = h("button", { type: "submit", class: "primary" }, t("detail.save"));
  const submit = (e) => {
    e.preventDefault();
    act(save, async () => {
      set(problem, "");
      set(result, "");
      try {
        await api.patch(`${path}/settings`, {
          receive: { groups: groups.input.checked, status: status.input.checked, channels: channels.input.checked },
          media: media.value, reject_calls: reject.input.checked, read_on_receive: read.input.checked, online: online.input.checked,
          min_gap_ms: gap.value ? Number(gap.value) : null, new_chats_per_day: chats.value ? Number(chats.value) : null,
        });
        set(result, t("settings.saved"));
      } catch (failure) {
        set(problem, explain(failure));
      }
    });
  };
  body.replaceChildren(h("form", { class: "fields", submit },
    ...[groups, status, channels, reject, read, online].map((c) => c.element),
    field(t("settings.media"), media), field(t("settings.gap"), gap), field(t("settings.chats"), chats), problem, result, h("div", { class: "actions" }, save)));
}

function numberCheck(api, path) {
  const numbers = h("textarea", { id: uniqueId("numbers"), rows: "3", required: "" });
  const ask = h("button", { type: "submit" }, t("check.ask"));
  const problem = alert();
  const list = h("ul", { class: "plain" });
  const submit = (e) => {
    e.preventDefault();
    act(ask, async () => {
      set(problem, "");
      try {
        const { data } = await api.post(`${path}/contacts/check`, { phone_numbers: numbers.value.split(/[\n,;]+/).map((n) => n.trim()).filter(Boolean) });
        list.replaceChildren(...data.map((d) => h("li", null, h("bdi", null, d.query), ": ", d.exists ? t("check.yes", { phone: who(d) }) : t("check.no"))));
      } catch (failure) {
        set(problem, explain(failure));
      }
    });
  };
  return h("form", { class: "fields", submit }, field(t("check.numbers"), numbers, h("p", { class: "hint" }, t("check.hint"))), h("div", { class: "actions" }, ask), problem, list);
}

async function groups(api, path, id, body) {
  const { data } = await api.get(`${path}/groups?limit=100`);
  if (!data.length) {
    body.replaceChildren(h("p", { class: "note" }, t("groups.empty")));
    return;
  }
  body.replaceChildren(h("ul", { class: "plain" }, ...data.map((g) => {
    const members = h("ul", { class: "plain" });
    const problem = alert();
    const open = button("quiet", t("groups.members"), () => act(open, async () => {
      try {
        const group = await api.get(`${path}/groups/${encodeURIComponent(g.chat)}`);
        members.replaceChildren(...(group.participants ?? []).map((p) => h("li", null, h("bdi", null, p.phone_number ? phone(p.phone_number) : who(p)), ` · ${t(`groups.role.${p.role}`)}`)));
        set(problem, "");
      } catch (failure) {
        set(problem, explain(failure));
      }
    }));
    return h("li", null, h("a", { href: `#/instances/${id}/chats/${encodeURIComponent(g.chat)}` }, g.subject || g.chat), ` · ${t("groups.count", { count: g.participant_count ?? "?" })} `, open, problem, members);
  })));
}
