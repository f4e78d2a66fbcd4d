// Number, time and name formats for people. Pure: nothing here reads the clock or the document.

export const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

const isMissing = (value) => value === null || value === undefined;

/** Formats a rate per second. */
export function rate(value) {
  if (isMissing(value)) return "–";
  if (value === 0) return "0";
  if (value < 0.1) return "<0.1";
  return value < 10 ? value.toFixed(1) : count(value);
}

/** Formats milliseconds without their unit. */
export function milliseconds(value) {
  if (isMissing(value)) return "–";
  return value < 10 ? value.toFixed(1) : whole.format(value);
}

/** Formats a number of things. */
export function count(value) {
  if (isMissing(value)) return "–";
  return value < 100000 ? whole.format(value) : compact.format(value);
}

/** Formats a share of 0 to 1 in percent; never 0 % or 100 % unless it is exactly that. */
export function percent(share) {
  if (isMissing(share)) return "–";
  if (share > 0 && share < 0.01) return "<1";
  if (share < 1 && share > 0.99) return ">99";
  return whole.format(share * 100);
}

/** Formats a number of bytes. */
export function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) { value /= 1024; unit += 1; }
  return `${unit === 0 || value >= 100 ? whole.format(value) : value.toFixed(1)} ${units[unit]}`;
}

/** Formats a length of time in its one or two largest units. */
export function span(seconds) {
  if (seconds < 60) return `${Math.max(0, Math.floor(seconds))} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor(seconds % 3600 / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor(seconds % 86400 / 3600)} h`;
}

/** Formats how long before `now` a moment was, both as RFC 3339. */
export function ago(moment, now) {
  return span((Date.parse(now) - Date.parse(moment)) / 1000);
}

/** Formats a moment as the reader's wall clock shows it, with the date unless it is the day of `now`. */
export function clock(moment, now) {
  const at = new Date(moment);
  const time = at.toLocaleTimeString("en-GB");
  return at.toDateString() === new Date(now).toDateString() ? time : `${at.toLocaleDateString("en-CA")} ${time}`;
}

/** Formats a number with its noun: "1 node", "3 nodes". */
export function counted(number, noun) {
  return `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
}
