// What there is beside an instance's state: how it came to it, its settings, a
// check of numbers, its groups, its profile, and whom it blocks. Each part is read
// when it is opened.
import { act, alert, button, field, h, set, uniqueId } from "/dashboard/dom.js";
import { openDialog } from "/dashboard/dialog.js";
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
    part(t("groups.title"), (body, again) => groups(api, path, id, body, again)),
    part(t("profile.title"), (body) => profile(api, path, body)),
    part(t("blocks.title"), (body, again) => blocks(api, path, body, again)),
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

// namesOf are the names that the phone knows, by LID and by number.
async function namesOf(api, path) {
  const names = new Map();
  try {
    const { data } = await api.get(`${path}/contacts?limit=1000`);
    for (const c of data) {
      const name = c.name ?? c.business_name ?? c.push_name;
      for (const key of [c.lid, c.phone_number]) if (key && name) names.set(key, name);
    }
  } catch { /* then they go by number */ }
  return names;
}

// person is somebody by everything that is known: name, number, LID.
function person(p, names = new Map()) {
  const name = names.get(p.lid) ?? names.get(p.phone_number);
  const known = [name, p.phone_number && phone(p.phone_number), p.lid && `LID ${p.lid}`].filter(Boolean);
  return h("bdi", null, known.join(" · ") || "?");
}

const listedAtMost = 1000;

// rest says that a list goes on where this one ends.
function rest(page) {
  return page.next_cursor ? h("p", { class: "note" }, t("parts.more", { count: page.data.length })) : "";
}

async function groups(api, path, id, body, again) {
  const page = await api.get(`${path}/groups?limit=${listedAtMost}`);
  if (!page.data.length) {
    body.replaceChildren(h("p", { class: "note" }, t("groups.empty")));
    return;
  }
  // Asked for once, when the first group is opened.
  let names = null;
  const known = () => (names ??= namesOf(api, path));
  body.replaceChildren(h("ul", { class: "plain" }, ...page.data.map((g) => group(api, path, id, g, known, again))), rest(page));
}

function group(api, path, id, g, known, again) {
  const at = `${path}/groups/${encodeURIComponent(g.chat)}`;
  const title = g.subject || g.chat;
  const problem = alert();
  const inside = h("div", { class: "inside" });
  const read = async () => {
    try {
      const [names, { participants = [], description, picture, who_may_write: write, who_may_edit: edit, ephemeral_seconds: seconds }] = await Promise.all([known(), api.get(at)]);
      const facts = [
        t("groups.write", { who: t(`groups.may.${write}`) }), t("groups.edit", { who: t(`groups.may.${edit}`) }),
        seconds ? t("groups.ephemeral", { duration: duration(seconds * 1000) }) : "",
      ].filter(Boolean);
      inside.replaceChildren(
        face(picture, t("groups.picture", { name: title })),
        description ? h("p", { class: "said" }, description) : "",
        h("p", { class: "hint" }, facts.join(" · ")),
        h("ul", { class: "plain", "aria-label": t("groups.members", { name: title }) },
          ...participants.map((p) => h("li", null, person(p, names), ` · ${t(`groups.role.${p.role}`)}`))),
        h("div", { class: "actions" },
          h("a", { class: "go", href: `#/instances/${id}/chats/${encodeURIComponent(g.chat)}` }, t("groups.chat")), invite, leave),
        link);
      set(problem, "");
    } catch (failure) {
      set(problem, explain(failure));
    }
  };
  const link = h("p", { class: "url", role: "status" });
  const invite = button("", t("groups.invite"), () => act(invite, async () => {
    try {
      set(link, (await api.get(`${at}/invite`)).link);
      set(problem, "");
    } catch (failure) {
      set(problem, explain(failure));
    }
  }));
  const leave = button("danger", t("groups.leave"), async () => {
    const whole = details.closest(".part");
    if (await openDialog({
      title: t("groups.leave.title", { name: title }), body: [h("p", null, t("groups.leave.text"))],
      actions: [{ label: t("groups.leave"), kind: "danger", run: () => api.post(`${at}/leave`) }],
    })) {
      await again();
      whole?.querySelector("summary").focus();
    }
  });
  const details = h("details", { class: "group", toggle: () => { if (details.open) read(); } },
    h("summary", null, h("strong", null, title), ` · ${t("groups.count", { count: g.participant_count ?? "?" })}`), problem, inside);
  return h("li", null, details);
}

// face shows a picture, which is fetched from WhatsApp at that moment.
function face(picture, alt) {
  return picture ? h("img", { src: picture.media.url, alt, class: "face" }) : "";
}

// profile is what the number shows of itself.
async function profile(api, path, body) {
  const now = await api.get(`${path}/profile`);
  // Before the phone has told its name there is none.
  const name = h("input", { id: uniqueId("profile"), maxlength: "25", autocomplete: "off", value: now.name });
  const about = h("input", { id: uniqueId("profile"), maxlength: "139", autocomplete: "off", value: now.about ?? "" });
  const problem = alert();
  const result = h("p", { class: "result", role: "status" });
  const save = h("button", { type: "submit", class: "primary" }, t("detail.save"));
  const submit = (e) => {
    e.preventDefault();
    act(save, async () => {
      set(problem, "");
      set(result, "");
      // What stays as it is, is not sent.
      const change = {};
      if (name.value.trim() && name.value.trim() !== now.name) change.name = name.value.trim();
      if (about.value.trim() !== (now.about ?? "")) change.about = about.value.trim();
      try {
        if (Object.keys(change).length) Object.assign(now, await api.patch(`${path}/profile`, change));
        set(result, t("settings.saved"));
      } catch (failure) {
        set(problem, explain(failure));
      }
    });
  };
  body.replaceChildren(
    h("p", null, person(now)),
    now.picture ? face(now.picture, t("profile.picture")) : h("p", { class: "hint" }, t("profile.nopicture")),
    h("form", { class: "fields", submit }, field(t("profile.name"), name, h("p", { class: "hint" }, t("profile.name.hint"))), field(t("profile.about"), about), problem, result, h("div", { class: "actions" }, save)));
}

// blocks are those from whom the number takes nothing.
async function blocks(api, path, body, again) {
  const page = await api.get(`${path}/blocks?limit=${listedAtMost}`);
  const names = page.data.length ? await namesOf(api, path) : new Map();
  const problem = alert();
  const number = h("input", { id: uniqueId("block"), type: "tel", inputmode: "tel", autocomplete: "off", required: "" });
  const block = h("button", { type: "submit" }, t("blocks.block"));
  // change blocks somebody or takes that back, and shows what there is then.
  const change = (made, call) => act(made, async () => {
    try {
      await call();
      await again();
      body.querySelector("input").focus();
    } catch (failure) {
      set(problem, explain(failure));
    }
  });
  const submit = (e) => {
    e.preventDefault();
    change(block, () => api.put(`${path}/blocks/${encodeURIComponent(number.value.replace(/[\s().+-]/g, ""))}`, {}));
  };
  body.replaceChildren(
    page.data.length ? h("ul", { class: "plain" }, ...page.data.map((b) => {
      const free = button("", t("blocks.unblock"), () => change(free, () => api.delete(`${path}/blocks/${encodeURIComponent(b.chat)}`)));
      free.setAttribute("aria-label", `${t("blocks.unblock")}: ${names.get(b.lid) ?? who(b)}`);
      return h("li", { class: "line" }, person(b, names), free);
    })) : h("p", { class: "note" }, t("blocks.empty")),
    rest(page),
    h("form", { class: "tools", submit }, field(t("blocks.number"), number), block), problem);
}
