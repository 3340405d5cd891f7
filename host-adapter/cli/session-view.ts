import type { z } from 'zod';
import type * as S from '../console/schemas';
import { formatBytes, formatDuration, formatTable, formatTime } from './output';
import type { Column } from './output';

export type Session = z.infer<typeof S.Session>;
export type SessionDetail = z.infer<typeof S.SessionDetail>;
export type Task = z.infer<typeof S.Task>;
type Disk = Task['disks'][number];

export const sessionColumns: readonly Column<Session>[] = [
  { title: 'session', value: (s) => s.id },
  { title: 'kind', value: (s) => s.kind },
  { title: 'about', value: (s) => s.subject },
  { title: 'state', value: (s) => s.state },
  { title: 'VMs', align: 'right', value: (s) => `${s.finishedTaskCount}/${s.taskCount}` },
  { title: 'read', align: 'right', value: (s) => formatBytes(s.counters.readBytes) },
  { title: 'stored', align: 'right', value: (s) => formatBytes(s.counters.storedBytes) },
  { title: 'started', value: (s) => formatTime(s.startedAt) },
  {
    title: 'took',
    align: 'right',
    value: (s) => (s.endedAt ? formatDuration(Date.parse(s.endedAt) - Date.parse(s.startedAt)) : undefined),
  },
];

const diskColumns: readonly Column<{ task: Task; disk: Disk }>[] = [
  { title: 'VM', value: ({ task }) => task.vmName },
  { title: 'disk', value: ({ disk }) => disk.name },
  { title: 'mode', value: ({ disk }) => disk.mode },
  { title: 'reason', value: ({ disk }) => disk.reason || undefined },
  { title: 'path', value: ({ disk }) => disk.path },
  { title: 'transport', value: ({ disk }) => disk.transport ?? undefined },
  { title: 'worker', value: ({ disk }) => workerText(disk) },
  { title: 'read', align: 'right', value: ({ disk }) => formatBytes(disk.counters.readBytes) },
  { title: 'sent', align: 'right', value: ({ disk }) => formatBytes(disk.counters.transferredBytes) },
  { title: 'stored', align: 'right', value: ({ disk }) => formatBytes(disk.counters.storedBytes) },
  { title: 'took', align: 'right', value: ({ disk }) => (disk.durationMs === null ? undefined : formatDuration(disk.durationMs)) },
];

/** Which worker, and how far it was. */
function workerText({ workerId, workerName, workerHop }: Disk): string | undefined {
  const name = workerName ?? workerId;
  return name === null ? undefined : `${name}${workerHop === null ? '' : ` (${workerHop})`}`;
}

/** A session with its tasks and disks, for people. */
export function describeSession(session: SessionDetail): string {
  const lines = [`session ${session.id} (${session.kind}${session.subject ? `: ${session.subject}` : ''}): ${session.state}`];
  if (session.failure) lines.push(`  ${session.failure.message} [${session.failure.code}]`);
  const rows = session.tasks.flatMap((task) => task.disks.map((disk) => ({ task, disk })));
  if (rows.length > 0) lines.push('', formatTable(rows, diskColumns));
  for (const task of session.tasks) {
    const facts = [task.state as string];
    if (task.waitingReason) facts.push(`waits: ${task.waitingReason}`);
    if (task.attempt > 1) facts.push(`try ${task.attempt}`);
    if (task.pointId) facts.push(`point ${task.pointId}`);
    if (task.path) facts.push(`through ${task.path.moverName} (${task.path.reason})`);
    if (task.createdId) facts.push(`${session.kind === 'worker' ? 'worker' : 'made'} ${task.createdId}`);
    lines.push('', `${task.vmName}: ${facts.join(', ')}`);
    if (task.failure) lines.push(`  ${task.failure.message} [${task.failure.code}]`);
    if (task.collection?.result) lines.push(...collectionLines(task.collection.result));
    for (const note of task.notes) lines.push(`  ${note.severity}: ${note.message} [${note.code}]`);
    for (const left of task.leftForJanitor) lines.push(`  left for the janitor: ${left}`);
    if (task.findings.length > 0) lines.push('', formatTable(task.findings, findingColumns));
  }
  return lines.join('\n');
}

/** What is damaged, and whose it is. */
const findingColumns: readonly Column<Task['findings'][number]>[] = [
  { title: 'damaged', value: ({ code }) => code },
  { title: 'VM', value: ({ vmName, vmId }) => vmName ?? vmId ?? undefined },
  { title: 'disk', value: ({ diskName, diskId }) => diskName ?? (diskId || undefined) },
  { title: 'point', value: ({ pointId }) => pointId || undefined },
  { title: 'from', value: ({ pointInTime }) => (pointInTime === null ? undefined : formatTime(pointInTime)) },
  { title: 'offset', align: 'right', value: ({ offsetBytes }) => offsetBytes ?? undefined },
  { title: 'in', value: ({ objectName }) => objectName },
  { title: 'what', value: ({ message }) => message },
];

function collectionLines(result: NonNullable<NonNullable<Task['collection']>['result']>): string[] {
  const packs = (count: number, bytes: number) => `${count} packs, ${formatBytes(bytes)}`;
  return [
    `  given back: ${packs(result.deletedPacks, result.deletedBytes)}${result.deletedPoints > 0 ? `, and ${result.deletedPoints} removed points` : ''}`,
    `  condemned: ${packs(result.condemnedPacks, result.condemnedBytes)}${result.deletedAfter === null ? '' : `, deleted after ${formatTime(result.deletedAfter)}`}`,
    `  rewritten: ${packs(result.rewrittenPacks, result.rewrittenBytes)}`,
    `  needed: ${formatBytes(result.neededBytes)} of ${formatBytes(result.storedBytes)} stored`,
    ...(result.waitingCollections > 0 ? [`  ${result.waitingCollections} collections wait for their grace time or for a mover`] : []),
  ];
}
