/** cloud-init itself as the reference for this folder's reader: one run of `scripts/worker-image/cloud_init.py`, which tells what it is given and answers. */
import { execFileSync } from 'node:child_process';
import path from 'node:path';

const script = path.resolve(__dirname, '..', '..', '..', '..', 'scripts', 'worker-image', 'cloud_init.py');

/** `meta_data.json` as the engine writes it: without a dsmode cloud-init would wait for a network first. */
export const metaData = JSON.stringify({ uuid: '7f6f1c53-6c7b-4c3e-9a38-0d4a2ad1c0de', meta: { dsmode: 'local' }, launch_index: '0' });

/** A config drive's tree by path, and the NICs of the machine that starts with it. */
export interface DriveCase {
  readonly files: Readonly<Record<string, string | Uint8Array>>;
  /** Device by MAC address. */
  readonly macs?: Readonly<Record<string, string>>;
}

export interface CloudInitAnswer {
  readonly found: boolean;
  /** By path. */
  readonly written: Readonly<Record<string, Buffer>>;
  readonly runs: readonly string[];
  readonly problem: string | null;
  /** Text of a .network file by interface. */
  readonly networkd: Readonly<Record<string, string>> | null;
  readonly schema: string | null;
}

/** Debian's own Python, which the packages are for. Answers in the order of the cases. */
export function readWithCloudInit(cases: readonly DriveCase[]): CloudInitAnswer[] {
  const requests = cases.map(({ files, macs = {} }) => ({
    files: Object.fromEntries(Object.entries(files).map(([name, content]) => [name, Buffer.from(content).toString('base64')])),
    macs,
  }));
  const output = execFileSync('/usr/bin/python3', [script], {
    input: JSON.stringify(requests),
    encoding: 'utf8',
    maxBuffer: 256 * 1024 * 1024,
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  type Answer = Omit<CloudInitAnswer, 'written'> & { readonly written: Readonly<Record<string, { readonly content: string }>> };
  return (JSON.parse(output) as Answer[]).map((answer) => ({
    ...answer,
    written: Object.fromEntries(Object.entries(answer.written).map(([name, { content }]) => [name, Buffer.from(content, 'base64')])),
  }));
}
