import { escape, escapeAttribute } from '../http/xml-format';

/** Building blocks of an OVF document. */

export type Attributes = Readonly<Record<string, string | number | boolean | undefined>>;

/** An element with text inside; undefined text leaves the element out. */
export function text(tag: string, content: string | number | boolean | undefined): string {
  return content === undefined ? '' : `<${tag}>${escape(String(content))}</${tag}>`;
}

/** An element with markup inside. */
export function element(tag: string, attributes: Attributes, content = ''): string {
  const rendered = Object.entries(attributes)
    .filter((entry): entry is [string, string | number | boolean] => entry[1] !== undefined)
    .map(([name, value]) => ` ${name}="${escapeAttribute(String(value))}"`)
    .join('');
  return `<${tag}${rendered}>${content}</${tag}>`;
}

/** `2026/01/31 12:00:00`, UTC, as OVF files of the engine carry dates. */
export function ovfDate(time: number): string {
  return new Date(time).toISOString().slice(0, 19).replaceAll('-', '/').replace('T', ' ');
}
