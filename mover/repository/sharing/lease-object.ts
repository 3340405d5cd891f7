/**
 * Leases as objects of a repository: what stands in them and how their holders are recognised, as docs/formats/concurrency.md has it. Nobody types `unlock`: a holder that
 * died is recognised on its own machine at once, and elsewhere after one lease without a sign of life.
 */
import fs from 'node:fs';
import os from 'node:os';
import { z } from 'zod';
import { hasCode } from '../../../common/errors/tidemark-error';
import type { Store } from '../../stores/store';

const maxLeaseBytes = 4096;

const schema = z.object({
  nonce: z.string(),
  instanceId: z.string(),
  hostName: z.string(),
  hostBootId: z.string(),
  processId: z.number(),
  processStartedAt: z.string(),
  leaseDurationMs: z.number(),
  renewedAt: z.string(),
  /** Given up in good order. */
  released: z.boolean().default(false),
  /** Of a writer: number of the newest collection it obeys. */
  acknowledged: z.number().default(0),
  /** Of the maintenance lease: raised by each new holder. */
  epoch: z.number().default(0),
  /** Of the maintenance lease: raised whenever a collection's plan changes. */
  revision: z.number().default(0),
  /** Of the maintenance lease: number of the newest collection. */
  newestCollection: z.number().default(0),
  /** Of the maintenance lease: number of the roster of points that counts; 0 when none does. Versions that know no rosters leave it out, whatever was there. */
  roster: z.number().default(0),
});

/** What a lease says. */
export type LeaseContent = z.infer<typeof schema>;

/** A lease's text, and when it was first seen, by this process's own clock (`performance.now`). */
export interface LeaseWatch {
  text: string;
  since: number;
}

/** The content of a new lease of this process. */
export function ownLease(instanceId: string, nonce: string, leaseDurationMs: number): LeaseContent {
  return {
    nonce,
    instanceId,
    hostName: os.hostname(),
    hostBootId: hostBootId(),
    processId: process.pid,
    processStartedAt: processStartedAt(process.pid) ?? '',
    leaseDurationMs,
    renewedAt: new Date().toISOString(),
    released: false,
    acknowledged: 0,
    epoch: 0,
    revision: 0,
    newestCollection: 0,
    roster: 0,
  };
}

export function encodeLease(content: LeaseContent): Buffer {
  return Buffer.from(JSON.stringify(content));
}

/** Undefined for a text that is torn or foreign: nobody can hold that. */
export function parseLease(text: string): LeaseContent | undefined {
  try {
    return schema.parse(JSON.parse(text));
  } catch {
    return undefined;
  }
}

/** Text of a lease; undefined when there is none. */
export async function readLease(store: Store, name: string): Promise<string | undefined> {
  try {
    return (await store.readWhole(name, maxLeaseBytes)).toString('utf8');
  } catch (error) {
    if (hasCode(error, 'OBJECT_NOT_FOUND')) return undefined;
    throw error;
  }
}

/** Notes what a lease says now; a text seen before keeps the time it was first seen at. */
export function watchLease(watch: LeaseWatch, text: string): void {
  if (text === watch.text) return;
  watch.text = text;
  watch.since = performance.now();
}

/** True when nobody holds the lease any more, as far as this machine can prove it or a whole lease went by without a sign of life. */
export function isGone(content: LeaseContent | undefined, watch: LeaseWatch): boolean {
  if (!content || content.released) return true;
  return isDead(content) || performance.now() - watch.since >= content.leaseDurationMs;
}

/** True only when this machine can prove it. */
function isDead(holder: LeaseContent): boolean {
  if (holder.hostBootId !== hostBootId() || holder.hostBootId === '') return false;
  return processStartedAt(holder.processId) !== holder.processStartedAt;
}

/** This machine since its boot, as far as process ids are comparable: containers of one machine have their own. */
function hostBootId(): string {
  try {
    return `${fs.readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()} ${fs.readlinkSync('/proc/self/ns/pid')}`;
  } catch {
    return '';
  }
}

/** Start time of a process in clock ticks since boot (field 22 of /proc/<pid>/stat); undefined when there is none, or a zombie. */
function processStartedAt(pid: number): string | undefined {
  try {
    const stat = fs.readFileSync(`/proc/${pid}/stat`, 'latin1');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' ? undefined : fields[19];
  } catch {
    return undefined;
  }
}
