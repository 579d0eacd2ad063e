// What a user's program does with the generated types: it must compile.
import type { components, paths } from "./types.js";

type Instance = paths["/v1/instances"]["post"]["responses"]["201"]["content"]["application/json"];
type Event = components["schemas"]["Event"];

export function tell(event: Event): string {
  switch (event.event) {
    case "instance.connected":
      return `connected as ${event.data.phone_number}`;
    case "message.received":
      return `${event.data.from.phone_number ?? "somebody"}: ${event.data.text ?? event.data.type}`;
    default:
      return event.event;
  }
}

export const create: components["schemas"]["CreateInstance"] = { name: "support line" };
export const number = (i: Instance): string | null => i.phone_number;
export const retry = (e: components["schemas"]["Error"]): boolean => e.error.code === "a code that did not exist when this was generated";
