import { EngineErrors } from '../engine/engine-errors';
import type { Disk } from '../engine/disks';
import { diskOf } from '../engine/disks';
import { diskAttachmentOf } from '../engine/disk-attachments';
import { backupOf } from '../engine/backups';
import { snapshotOf } from '../engine/snapshots';
import type { Wire } from '../engine/mapping';
import { vmOf } from '../engine/vms';
import type { AttachedDisk, Surroundings, VmPicture } from './picture';
import { judge, preflightVm } from './preflight';

const gibibyte = 1024 ** 3;
const goodVm = { id: 'V', name: 'web', status: 'up', origin: 'ovirt', cluster: { id: 'C' }, fqdn: 'web.example' };
const goodDisk = {
  id: 'D',
  alias: 'web_Disk1',
  provisioned_size: String(10 * gibibyte),
  format: 'cow',
  backup: 'incremental',
  status: 'ok',
  storage_type: 'image',
  content_type: 'data',
  storage_domains: { storage_domain: [{ id: 'SD' }] },
};

function attached(disk: Wire = {}, attachment: Wire = {}): AttachedDisk {
  const made: Disk = diskOf({ ...goodDisk, ...disk });
  return { disk: made, attachment: diskAttachmentOf({ id: made.id, active: 'true', interface: 'virtio', ...attachment }) };
}

const domain = {
  id: 'SD',
  name: 'data1',
  type: 'data',
  storageType: 'nfs',
  status: 'active',
  availableBytes: 500 * gibibyte,
  usedBytes: 0,
  criticalFreeBytes: 5 * gibibyte,
  backup: false,
  dataCenterIds: ['DC'],
};
const cluster = {
  id: 'C',
  name: 'Default',
  dataCenterId: 'DC',
  version: { major: 4, minor: 7 },
  architecture: 'x86_64',
  biosType: undefined,
};
const surroundings: Surroundings = {
  clusters: new Map([['C', cluster]]),
  storageDomains: new Map([['SD', domain]]),
  hosts: [{ id: 'H', name: 'h', address: 'h', status: 'up', clusterId: 'C', vdsmVersion: undefined }],
  transfers: [],
};

function picture(changes: Partial<Omit<VmPicture, 'vm'>> & { vm?: Wire } = {}): VmPicture {
  const { vm, ...rest } = changes;
  return {
    vm: vmOf({ ...goodVm, ...vm }),
    disks: [attached()],
    snapshots: [snapshotOf({ id: 'A', snapshot_type: 'active', snapshot_status: 'ok' })],
    backups: [],
    checkpoints: [],
    level: { major: 4, minor: 7 },
    cluster,
    surroundings,
    base: undefined,
    requireConsistency: false,
    byAttachment: false,
    ...rest,
  };
}

const snapshots = (count: number) =>
  Array.from({ length: count }, (_, index) => snapshotOf({ id: `S${index}`, snapshot_type: 'regular', snapshot_status: 'ok' }));
const backup = (wire: Wire) => [backupOf({ id: 'B', phase: 'ready', ...wire })];
const checkpoint = (id: string, state = 'created', description = 'tidemark job=a session=b') => ({
  id,
  parentId: undefined,
  description,
  state,
  createdAt: undefined,
});
const oldLevel = { major: 4, minor: 4 };
const transfer = (phase: string) => ({ ...surroundings, transfers: [{ id: 'T', phase, diskId: 'D' } as never] });
const withDomain = (changes: object) => ({ ...surroundings, storageDomains: new Map([['SD', { ...domain, ...changes }]]) });

describe('preflight', () => {
  it('finds nothing against an ordinary VM', () => {
    expect(judge(picture())).toEqual({
      vmId: 'V',
      vmName: 'web',
      canBackUp: true,
      retryLater: false,
      findings: [],
      disks: [{ diskId: 'D', name: 'web_Disk1', mode: 'full', reason: 'first-backup' }],
    });
  });

  it.each<[string, 'info' | 'warning' | 'blocking' | 'waiting', Parameters<typeof picture>[0]]>([
    ['vm-hosted-engine', 'blocking', { vm: { origin: 'managed_hosted_engine' } }],
    ['vm-hosted-engine', 'blocking', { vm: { origin: 'hosted_engine' } }],
    ['vm-is-worker', 'blocking', { vm: { comment: 'tidemark-worker worker=w plugin=p operation=o' } }],
    ['vm-foreign', 'blocking', { vm: { origin: 'external' } }],
    ['vm-preview', 'blocking', { snapshots: [snapshotOf({ id: 'S', snapshot_status: 'in_preview' })] }],
    ['vm-preview', 'blocking', { snapshots: [snapshotOf({ id: 'S', snapshot_status: 'ok', snapshot_type: 'preview' })] }],
    ['vm-snapshot-running', 'waiting', { snapshots: [snapshotOf({ id: 'S', snapshot_status: 'locked' })] }],
    ['vm-state', 'waiting', { vm: { status: 'migrating' } }],
    ['vm-state', 'waiting', { vm: { status: 'image_locked' } }],
    ['vm-state', 'waiting', { vm: { status: 'powering_up' } }],
    ['vm-state', 'blocking', { vm: { status: 'paused' } }],
    ['vm-state', 'blocking', { vm: { status: 'suspended' } }],
    ['vm-state', 'blocking', { vm: { status: 'not_responding' } }],
    ['vm-state', 'blocking', { vm: { status: undefined } }],
    ['vm-in-backup', 'waiting', { backups: backup({ description: 'tidemark job=a session=b' }) }],
    ['vm-foreign-backup', 'waiting', { backups: backup({ description: 'other' }) }],
    ['vm-in-transfer', 'waiting', { surroundings: transfer('transferring') }],
    ['vm-in-transfer', 'blocking', { surroundings: transfer('paused_system') }],
    ['vm-stateless', 'blocking', { vm: { stateless: 'true' } }],
    ['vm-stateless', 'blocking', { vm: { vm_pool: { id: 'P' } } }],
    ['vm-foreign-snapshot-disk', 'blocking', { disks: [attached(), attached({ id: 'X', snapshot: { id: 'S' } })] }],
    ['vm-level', 'blocking', { vm: { status: 'down' }, level: oldLevel }],
    ['cbt-level', 'warning', { level: oldLevel }],
    ['host-none-up', 'blocking', { surroundings: { ...surroundings, hosts: [] } }],
    ['vm-illegal-images', 'warning', { vm: { has_illegal_images: 'true' } }],
    ['chain-too-long', 'warning', { snapshots: snapshots(10) }],
    ['chain-too-long', 'blocking', { snapshots: snapshots(25) }],
    [
      'snapshot-left',
      'warning',
      {
        snapshots: [snapshotOf({ id: 'S', snapshot_type: 'regular', snapshot_status: 'ok', description: 'Auto-generated for Backup VM' })],
      },
    ],
    ['checkpoints-many', 'warning', { checkpoints: Array.from({ length: 20 }, (_, index) => checkpoint(`c${index}`, 'created', 'other')) }],
    ['guest-agent-missing', 'info', { vm: { fqdn: '' } }],
    ['guest-agent-missing', 'warning', { vm: { fqdn: '' }, requireConsistency: true }],
    ['vm-nvram', 'info', { vm: { tpm_enabled: 'true' } }],
    ['vm-next-run', 'info', { vm: { next_run_configuration_exists: 'true' } }],
    ['disk-direct-lun', 'blocking', { disks: [attached(), attached({ id: 'X', storage_type: 'lun' })] }],
    ['disk-managed-block', 'blocking', { disks: [attached(), attached({ id: 'X', storage_type: 'managed_block_storage' })] }],
    ['disk-shareable', 'blocking', { disks: [attached(), attached({ id: 'X', shareable: 'true' })] }],
    ['disk-not-data', 'blocking', { disks: [attached(), attached({ id: 'X', content_type: 'memory_dump_volume' })] }],
    ['disk-illegal', 'blocking', { disks: [attached(), attached({ id: 'X', status: 'illegal' })] }],
    ['disk-locked', 'waiting', { disks: [attached(), attached({ id: 'X', status: 'locked' })] }],
    ['disk-unplugged', 'blocking', { disks: [attached(), attached({ id: 'X' }, { active: 'false' })] }],
    ['domain-inactive', 'blocking', { surroundings: withDomain({ status: 'maintenance' }) }],
    ['domain-low-space', 'blocking', { surroundings: withDomain({ availableBytes: gibibyte }) }],
    [
      'scratch-space',
      'warning',
      { surroundings: withDomain({ storageType: 'iscsi', availableBytes: 6 * gibibyte }), level: { major: 4, minor: 6 } },
    ],
    ['cbt-raw', 'info', { disks: [attached({ format: 'raw' })] }],
    ['cbt-off', 'info', { disks: [attached({ backup: 'none' })] }],
  ])('%s is %s', (code, expected, changes) => {
    const verdict = judge(picture(changes));
    const finding = verdict.findings.find((one) => one.code === code);
    expect(finding).toMatchObject({ code, severity: expected === 'waiting' ? 'blocking' : expected });
    expect(finding?.message.length).toBeGreaterThan(20);
    if (finding?.severity !== 'info' && code !== 'disk-not-data') expect(finding?.advice.length).toBeGreaterThan(10);
    expect(verdict.retryLater).toBe(expected === 'waiting');
    const aboutDisk = finding?.diskId !== undefined;
    if (expected === 'blocking' || expected === 'waiting') {
      expect(verdict.canBackUp).toBe(aboutDisk && verdict.disks.length > 0);
      if (aboutDisk) expect(verdict.disks.map((disk) => disk.diskId)).not.toContain(finding?.diskId);
    } else expect(verdict.canBackUp).toBe(true);
  });

  it.each<[string, Parameters<typeof picture>[0]]>([
    ['an ended backup', { backups: backup({ phase: 'succeeded' }) }],
    ['a finished transfer', { surroundings: transfer('finished_success') }],
    ['a stateless VM that is down', { vm: { stateless: 'true', status: 'down' } }],
    ['hosts that our user may not see', { surroundings: { ...surroundings, hosts: undefined } }],
    ['no guest agent in a VM that is down', { vm: { status: 'down', fqdn: '' } }],
    ['little scratch space where a snapshot is used', { surroundings: withDomain({ storageType: 'iscsi', availableBytes: 6 * gibibyte }) }],
  ])('has nothing against %s', (_name, changes) => {
    expect(judge(picture(changes)).findings).toEqual([]);
  });

  it('says so when no disk is left', () => {
    expect(judge(picture({ disks: [] }))).toMatchObject({ canBackUp: false, findings: [{ code: 'vm-no-disks' }] });
    const verdict = judge(picture({ disks: [attached({ shareable: 'true' })] }));
    expect(verdict).toMatchObject({ canBackUp: false, disks: [] });
    expect(verdict.findings.map((finding) => finding.code)).toEqual(['disk-shareable', 'vm-no-disks']);
  });

  it('plans each disk by itself', () => {
    const disks = [attached(), attached({ id: 'new' }), attached({ id: 'raw', format: 'raw' }), attached({ id: 'new-raw', format: 'raw' })];
    const base = { checkpointId: 'c1', diskIds: ['D', 'raw'] };
    const plan = (changes: Parameters<typeof picture>[0]) =>
      judge(picture({ disks, base, ...changes })).disks.map(({ diskId, mode, reason }) => [diskId, mode, reason]);
    const raws = [
      ['raw', 'digest-compare', 'cbt-raw'],
      ['new-raw', 'full', 'cbt-raw'],
    ];
    expect(plan({ checkpoints: [checkpoint('c1')] })).toEqual([['D', 'incremental', ''], ['new', 'full', 'cbt-new-disk'], ...raws]);
    expect(plan({ checkpoints: [checkpoint('c1', 'invalid')] })).toEqual([
      ['D', 'full', 'cbt-bitmap-invalid'],
      ['new', 'full', 'cbt-bitmap-invalid'],
      ...raws,
    ]);
    expect(plan({ checkpoints: [] })).toEqual([['D', 'full', 'cbt-no-checkpoint'], ['new', 'full', 'cbt-no-checkpoint'], ...raws]);
    expect(plan({ checkpoints: [checkpoint('c1')], level: oldLevel })[0]).toEqual(['D', 'full', 'cbt-level']);
  });
});

describe('preflightVm', () => {
  const engine = {
    vms: { get: async () => picture().vm, find: async () => picture().vm },
    diskAttachments: { list: async () => [{ ...attached().attachment, disk: attached().disk }] },
    snapshots: { list: async () => [] },
    backups: { list: async () => [] },
    checkpoints: { list: async () => [checkpoint('foreign', 'created', 'other'), checkpoint('c1')], disks: async () => [attached().disk] },
    clusters: { list: async () => [cluster] },
    dataCenters: {
      list: async () => [{ id: 'DC', name: 'Default', status: 'up', local: false, version: undefined, quotaMode: undefined }],
    },
    storageDomains: { listOfDataCenter: async () => [domain] },
    hosts: { list: async () => surroundings.hosts ?? [] },
    transfers: { list: async () => [] },
  };

  it('guesses the plan from the newest checkpoint of ours', async () => {
    await expect(preflightVm(engine, 'V')).resolves.toMatchObject({
      canBackUp: true,
      findings: [],
      disks: [{ diskId: 'D', mode: 'incremental' }],
    });
  });

  it('has a verdict about a VM that is gone', async () => {
    const gone = {
      ...engine,
      vms: { get: () => Promise.reject(EngineErrors.ENGINE_NOT_FOUND({ what: 'vms/V' })), find: async () => undefined },
    };
    await expect(preflightVm(gone, 'V')).resolves.toMatchObject({ canBackUp: false, findings: [{ code: 'vm-gone' }] });
  });
});

describe('preflight of a backup by attachment', () => {
  const base = { checkpointId: 'c1', diskIds: ['D'] };
  const codes = (changes: Parameters<typeof picture>[0]) =>
    judge(picture({ byAttachment: true, ...changes })).findings.map((finding) => `${finding.severity} ${finding.code}`);

  it('asks nothing of change tracking', () => {
    expect(codes({ vm: { status: 'down' }, level: oldLevel })).toEqual([]);
    expect(codes({ level: oldLevel, disks: [attached({ format: 'raw', backup: 'none' })] })).toEqual([]);
    expect(
      codes({ level: { major: 4, minor: 6 }, surroundings: withDomain({ storageType: 'iscsi', availableBytes: 6 * gibibyte }) }),
    ).toEqual([]);
  });

  it('reads everything and stores what differs', () => {
    expect(judge(picture({ byAttachment: true })).disks).toMatchObject([{ mode: 'full', reason: 'first-backup' }]);
    const disks = [attached(), attached({ id: 'new' })];
    expect(judge(picture({ byAttachment: true, base, disks })).disks.map((disk) => [disk.diskId, disk.mode, disk.reason])).toEqual([
      ['D', 'digest-compare', 'cbt-attachment'],
      ['new', 'full', 'cbt-new-disk'],
    ]);
  });

  it('warns of checkpoints that the engine may drop, and only then', () => {
    expect(codes({ checkpoints: [checkpoint('c1')] })).toEqual(['info cbt-detach-risk']);
    expect(judge(picture({ checkpoints: [checkpoint('c1')] })).findings).toEqual([]);
  });

  it.each<[string, Wire]>([
    ['disk-direct-lun', { storage_type: 'lun', format: undefined, status: undefined }],
    ['disk-shareable', { shareable: 'true' }],
    ['disk-illegal', { status: 'illegal' }],
    ['disk-locked', { status: 'locked' }],
    ['disk-managed-block', { storage_type: 'managed_block_storage' }],
  ])('leaves out what cannot be attached: %s', (code, disk) => {
    expect(codes({ disks: [attached(), attached({ id: 'E', ...disk })] })).toEqual([`blocking ${code}`]);
  });

  it('names a snapshot of ours that was left', () => {
    const left = snapshotOf({ id: 'S', snapshot_type: 'regular', snapshot_status: 'ok', description: 'tidemark 1-2 operation=3 job=a' });
    expect(codes({ snapshots: [left] })).toEqual(['warning snapshot-left']);
    expect(
      codes({ snapshots: [snapshotOf({ id: 'S', snapshot_type: 'regular', snapshot_status: 'ok', description: 'tidemark test' })] }),
    ).toEqual([]);
  });
});
