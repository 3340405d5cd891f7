import type { StartTask__Output } from '../../proto/gen/tidemark/worker/v1/StartTask';
import { connectionsPerLane, usableLanes } from './disk-task';
import { taskFromWire } from './task-from-wire';

const identity = { certificateChainPem: 'c', privateKeyPem: 'k', trustBundlePem: 't' };
const dataPath = { endpoints: ['m:1'], serverName: '', ticket: 'ticket', sessionId: 's', repositoryId: 'r', expiresAt: null };

function backup(changes: object): StartTask__Output {
  const task = {
    localDevice: { path: '/dev/vdb', sizeBytes: '1024' },
    dataPath,
    diskId: 'd',
    readScope: 'READ_SCOPE_ALLOCATED',
    basePointId: '',
    baseDiskId: '',
    limits: null,
    ...changes,
  };
  return { taskId: 't', correlationId: 'c', backupDisk: task, task: 'backupDisk' } as unknown as StartTask__Output;
}

describe('task from the wire', () => {
  it('takes what the contract allows', () => {
    expect(taskFromWire(backup({}), identity)).toMatchObject({
      kind: 'backup',
      scope: 'allocated',
      limits: { connections: 0, rateBytesPerSecond: 0 },
    });
  });

  it.each([
    ['no endpoint', { dataPath: { ...dataPath, endpoints: [] } }, 'data_path'],
    ['no ticket', { dataPath: { ...dataPath, ticket: '' } }, 'data_path.ticket'],
    ['no source', { localDevice: null }, 'source'],
    ['no disk id', { diskId: '' }, 'disk_id'],
    ['an unknown scope', { readScope: 'READ_SCOPE_UNSPECIFIED' }, 'read_scope'],
    ['changes without a base', { readScope: 'READ_SCOPE_CHANGED' }, 'base_point_id'],
    ['more connections than a host bears', { limits: { connections: 9, rateBytesPerSecond: '0' } }, 'limits.connections'],
    ['a negative size', { localDevice: { path: '/dev/vdb', sizeBytes: '-1' } }, 'local_device.size_bytes'],
  ])('refuses %s and names the field', (_name, changes, field) => {
    expect(() => taskFromWire(backup(changes), identity)).toThrow(
      expect.objectContaining({ code: 'ARGUMENT_INVALID', meta: expect.objectContaining({ field }) }),
    );
  });

  const attached = (...ranges: readonly (readonly [start: number, length: number])[]) => ({
    localDevice: null,
    attachedDisk: {
      serial: 's',
      sizeBytes: '4096',
      patience: null,
      readsZero: false,
      zeroRanges: ranges.map(([start, length]) => ({ startBytes: String(start), lengthBytes: String(length) })),
    },
  });

  it('takes what is known to be zero of a plugged disk', () => {
    const task = taskFromWire(backup(attached([0, 512], [512, 512], [2048, 2048])), identity);
    expect(task).toMatchObject({
      source: {
        kind: 'attached',
        zeroRanges: [
          { start: 0, length: 512 },
          { start: 512, length: 512 },
          { start: 2048, length: 2048 },
        ],
      },
    });
  });

  const wrong: readonly [string, ...(readonly [number, number])[]][] = [
    ['overlap', [0, 1024], [512, 512]],
    ['come out of order', [1024, 512], [0, 512]],
    ['are empty', [0, 0]],
    ['reach beyond the disk', [3584, 1024]],
  ];
  it.each(wrong)('refuses zero ranges that %s', (_name, ...ranges) => {
    expect(() => taskFromWire(backup(attached(...ranges)), identity)).toThrow(
      expect.objectContaining({ code: 'ARGUMENT_INVALID', meta: expect.objectContaining({ field: 'attached_disk.zero_ranges' }) }),
    );
  });

  it.each([
    [{ connections: 0, rateBytesPerSecond: 0 }, 8, 2, 2, 2],
    [{ connections: 1, rateBytesPerSecond: 0 }, 8, 4, 1, 1],
    [{ connections: 8, rateBytesPerSecond: 0 }, 8, 4, 4, 2],
    [{ connections: 8, rateBytesPerSecond: 0 }, 1, 4, 1, 1],
    [{ connections: 0, rateBytesPerSecond: 0 }, 8, 16, 4, 1],
  ])('never opens more connections than allowed: %j', (limits, offered, threads, lanes, each) => {
    expect(usableLanes(limits, offered, threads)).toBe(lanes);
    expect(connectionsPerLane(limits, offered, lanes)).toBe(each);
  });
});
