import fs from 'node:fs/promises';
import path from 'node:path';
import { randomUUID } from 'node:crypto';
import type { Cell } from './cell';
import { dial, reasonOf } from './dial';
import type { NameService } from './names';

const mebibyte = 1024 * 1024;
/** Rule of a worker VM's size: 1 GiB, and 256 MiB for each task. The kernel keeps some of it for itself. */
const baseMemoryBytes = 1024 * mebibyte;
const memoryPerTaskBytes = 256 * mebibyte;
const kernelShare = 0.12;
/** Identity and instance id are a few KiB; below it something else fills the scratch space. */
const scratchNeededBytes = 8 * mebibyte;
const skewWarnMs = 5_000;
const skewFailMs = 60_000;

/** Round trip to a peer by its TCP handshake, or undefined. */
export async function roundTripMs(host: string, port: number, names: NameService, signal: AbortSignal): Promise<number | undefined> {
  const reached = await dial(host, port, names, 3_000, signal);
  if (reached.kind !== 'reached') return undefined;
  reached.socket.destroy();
  return reached.latencyMs;
}

/** How far this clock was ahead of the plug-in's: the message was under way for half a round trip. */
export function skewOf(sentAt: Date, receivedAt: Date, roundTrip: number | undefined): number {
  return receivedAt.getTime() - sentAt.getTime() - (roundTrip ?? 0) / 2;
}

export function clockCell(skewMs: number, roundTrip: number | undefined, plugin: string): Cell {
  const away = Math.abs(skewMs);
  const seconds = (away / 1000).toFixed(away < 10_000 ? 1 : 0);
  const side = skewMs > 0 ? 'ahead of' : 'behind';
  const cell = {
    check: 'clock' as const,
    target: plugin,
    targetName: 'plug-in',
    detail: `${seconds} s ${side} the plug-in's clock${roundTrip === undefined ? '' : `, measured within ${(roundTrip / 2).toFixed(0)} ms`}`,
    ...(roundTrip === undefined ? {} : { latencyMs: roundTrip }),
  };
  if (away <= skewWarnMs) return { ...cell, verdict: 'passed', advice: '', code: '' };
  return {
    ...cell,
    verdict: away <= skewFailMs ? 'warning' : 'failed',
    code: 'CLOCK_SKEW',
    advice: `Set the clock of this worker, or that of the plug-in's machine if it is the wrong one: give the worker NTP servers in its settings that it reaches on UDP 123, and see that the host's own clock is right.`,
  };
}

/** The machine's memory and its scratch space. */
export async function resourceCells(dataFolder: string, taskSlots: number, memoryBytes: number, freeMemoryBytes: number): Promise<Cell[]> {
  return [memoryCell(taskSlots, memoryBytes, freeMemoryBytes), await scratchCell(dataFolder)];
}

function memoryCell(taskSlots: number, memoryBytes: number, freeMemoryBytes: number): Cell {
  const ruleBytes = baseMemoryBytes + memoryPerTaskBytes * taskSlots;
  const cell = {
    check: 'resources' as const,
    target: 'memory',
    targetName: '',
    detail: `${inMib(memoryBytes)} of memory, ${inMib(freeMemoryBytes)} free, ${taskSlots} tasks at a time`,
  };
  if (memoryBytes >= ruleBytes * (1 - kernelShare)) return { ...cell, verdict: 'passed', advice: '', code: '' };
  return {
    ...cell,
    verdict: 'warning',
    code: 'MEMORY_LOW',
    advice: `Give this worker ${inMib(ruleBytes)} of memory, or fewer tasks at a time.`,
  };
}

async function scratchCell(dataFolder: string): Promise<Cell> {
  const cell = { check: 'resources' as const, target: 'scratch', targetName: '' };
  const advice = `Free space in ${dataFolder} of this worker; a worker VM is best replaced.`;
  try {
    const { bavail, bsize } = await fs.statfs(dataFolder);
    const freeBytes = Number(bavail) * Number(bsize);
    const file = path.join(dataFolder, `.self-test-${randomUUID()}`);
    await fs.writeFile(file, Buffer.alloc(4096), { flag: 'wx' });
    await fs.rm(file);
    const detail = `${inMib(freeBytes)} free`;
    if (freeBytes >= scratchNeededBytes) return { ...cell, verdict: 'passed', detail, advice: '', code: '' };
    return { ...cell, verdict: 'warning', detail, advice, code: 'SCRATCH_FULL' };
  } catch (error) {
    return { ...cell, verdict: 'failed', detail: `nothing can be written (${reasonOf(error)})`, advice, code: 'SCRATCH_FULL' };
  }
}

function inMib(bytes: number): string {
  return `${Math.round(bytes / mebibyte)} MiB`;
}
