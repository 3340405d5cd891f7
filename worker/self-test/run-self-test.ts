import os from 'node:os';
import net from 'node:net';
import { splitEndpoint } from '../../common/tls/enrolment';
import type { IdentityMaterial } from '../../common/tls/identity';
import { timestampFromWire } from '../../common/rpc/bytes';
import type { RunSelfTest__Output } from '../../proto/gen/tidemark/worker/v1/RunSelfTest';
import type { SelfTestTarget__Output } from '../../proto/gen/tidemark/worker/v1/SelfTestTarget';
import { checkFromWire } from './cell';
import type { Cell, Check } from './cell';
import { endpointCell } from './endpoint-check';
import type { Surroundings } from './endpoint-check';
import { clockCell, resourceCells, roundTripMs, skewOf } from './machine-checks';
import { moverLook, throughputCell } from './mover-check';
import type { MoverTarget } from './mover-check';
import { nameCells } from './name-check';
import { NamesOnce } from './names';
import type { NameService } from './names';

/** Targets looked at side by side: sockets cost little, and those that time out should not queue. */
const besideEachOther = 64;
/** For one step towards one target: TCP, TLS, Hello. */
const stepMs = 4_000;
/** After it nothing more is looked at, so that the report is there within 60 s: the sample takes 15 s, and its connection some. */
const looksEndMs = 28_000;

export interface SelfTestMachine {
  /** Of the plug-in, for the clock. */
  readonly pluginEndpoint: string;
  readonly dataFolder: string;
  readonly taskSlots: number;
  identity(): IdentityMaterial;
  readonly names: NameService;
  now(): number;
}

/** Everything that a backup needs, looked at from here. Never rejects for what it finds. `receivedAt` is when the request came. */
export async function runSelfTest(
  request: RunSelfTest__Output,
  receivedAt: Date,
  given: SelfTestMachine,
  stopped: AbortSignal,
): Promise<Cell[]> {
  const machine = { ...given, now: () => given.now(), identity: () => given.identity(), names: new NamesOnce(given.names) };
  const signal = AbortSignal.any([stopped, AbortSignal.timeout(looksEndMs)]);
  const { host, port } = splitEndpoint(machine.pluginEndpoint);
  const roundTrip = await roundTripMs(host, port, machine.names, signal);
  const sentAt = timestampFromWire(request.sentAt);
  const skewMs = sentAt ? skewOf(sentAt, receivedAt, roundTrip) : 0;
  const around: Surroundings = { names: machine.names, skewMs, now: () => machine.now(), timeoutMs: stepMs, signal };
  const identity = machine.identity();
  const movers: { target: MoverTarget; endpoint: string }[] = [];
  const look = async (target: SelfTestTarget__Output): Promise<Cell> => {
    const check = checkFromWire(target.check);
    const named = { check: check ?? ('engine' as const), endpoint: target.endpoint, name: target.name };
    try {
      if (check === 'mover') {
        const mover = moverFromWire(target, identity);
        const { cell, endpoint, measurable } = await moverLook(mover, around);
        if (measurable) movers.push({ target: mover, endpoint });
        return cell;
      }
      if (check === 'engine' || check === 'host' || check === 'proxy') return await endpointCell({ ...named, caPem: target.caPem }, around);
    } catch (error) {
      return unknownCell(named, error instanceof Error ? error.message : String(error));
    }
    return unknownCell(named, `this worker does not know the check ${target.check}`);
  };
  const clock = sentAt ? [clockCell(skewMs, roundTrip, machine.pluginEndpoint)] : [];
  const [names, looks, resources] = await Promise.all([
    nameCells(namesOf(request.targets), machine.names),
    inTurns(request.targets, besideEachOther, look),
    resourceCells(machine.dataFolder, machine.taskSlots, os.totalmem(), os.freemem()),
  ]);
  // Alone, so that it measures the way and not the test. In the order of the targets.
  const order = looks.flatMap((cell) => movers.filter((mover) => mover.endpoint === cell.target));
  const [first] = order;
  const sample = { ...around, signal: stopped };
  const throughput = first ? [await throughputCell(first.target, first.endpoint, sample)] : [];
  return [...clock, ...names, ...looks, ...throughput, ...resources];
}

function moverFromWire(target: SelfTestTarget__Output, identity: IdentityMaterial): MoverTarget {
  const endpoints = target.dataPath?.endpoints ?? [];
  return {
    endpoints: endpoints.length > 0 ? endpoints : [target.endpoint],
    name: target.name,
    serverName: target.dataPath?.serverName ?? '',
    ticket: target.dataPath?.ticket ?? '',
    identity,
  };
}

/** Names, not addresses, of all targets, each once. */
export function namesOf(targets: readonly SelfTestTarget__Output[]): string[] {
  const hosts = targets
    .flatMap((target) => [target.endpoint, ...(target.dataPath?.endpoints ?? [])])
    .flatMap((endpoint) => {
      try {
        return [splitEndpoint(endpoint).host];
      } catch {
        return []; // told by the cell of the target itself
      }
    });
  return [...new Set(hosts.filter((host) => net.isIP(host) === 0))];
}

function unknownCell(named: { check: Check; endpoint: string; name: string }, detail: string): Cell {
  const { check, endpoint, name } = named;
  return { check, target: endpoint, targetName: name, verdict: 'warning', detail, advice: '', code: 'TARGET_UNKNOWN' };
}

/** Results in the order of the items, so many at a time. */
async function inTurns<T, R>(items: readonly T[], width: number, work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  let next = 0;
  const run = async () => {
    for (let index = next++; index < items.length; index = next++) results[index] = await work(items[index] as T);
  };
  await Promise.all(Array.from({ length: Math.min(width, items.length) }, run));
  return results;
}
