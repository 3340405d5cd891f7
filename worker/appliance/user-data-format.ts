/** Which of cloud-init's formats the user data has: https://docs.cloud-init.io/en/22.4.2/topics/format.html. Only plain cloud-config is read. */
import { gunzipSync } from 'node:zlib';
import { ApplianceErrors } from '../errors/appliance-errors';

const cloudConfig = 'cloud-config';
const largestBytes = 1024 * 1024;

/** First words and what they say; longer ones before those that they begin with. */
const formats: readonly (readonly [head: string, name: string])[] = [
  ['text/x-shellscript-per-', 'a script'],
  ['#cloud-config-archive', 'an archive of several'],
  ['#cloud-config-jsonp', 'a JSON patch'],
  ['## template: jinja', 'a template'],
  ['#cloud-boothook', 'a script'],
  ['#part-handler', 'a program'],
  ['#cloud-config', cloudConfig],
  ['#include', 'a list of addresses to fetch'],
  ['#!', 'a script'],
];

/** The text of a cloud-config. Throws SEED_MISSING for every other format, SEED_INVALID for what is damaged or too large. */
export function cloudConfigText(userData: Uint8Array): string {
  const bytes = isGzip(userData) ? gunzip(userData) : userData;
  if (bytes.length > largestBytes) throw ApplianceErrors.SEED_INVALID({ problems: `the user data is larger than ${largestBytes} bytes` });
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw ApplianceErrors.SEED_INVALID({ problems: 'the user data is not UTF-8' });
  }
  const format = formatOf(text);
  if (format === cloudConfig) return text;
  throw ApplianceErrors.SEED_MISSING({ reason: `the user data is ${format}, and a worker reads plain cloud-config only` });
}

function formatOf(text: string): string {
  // As cloud-init tells a message of several parts.
  if (text.slice(0, 4096).toLowerCase().includes('mime-version:')) return 'a MIME message';
  const start = text.replace(/^[ \t\r\n\v\f]+/, '').toLowerCase();
  return formats.find(([head]) => start.startsWith(head))?.[1] ?? 'of no known format';
}

/** RFC 1952, 2.3.1. */
function isGzip(bytes: Uint8Array): boolean {
  return bytes[0] === 0x1f && bytes[1] === 0x8b;
}

function gunzip(bytes: Uint8Array): Uint8Array {
  try {
    return gunzipSync(bytes, { maxOutputLength: largestBytes });
  } catch {
    throw ApplianceErrors.SEED_INVALID({ problems: 'the user data is not gzip, or too large' });
  }
}
