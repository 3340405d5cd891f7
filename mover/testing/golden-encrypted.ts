/** What the golden bytes of encrypted objects were made of, once, with these keys. */
import { Secret } from '../../common/log/redact';
import { formatRecoveryKey } from '../../common/secrets/recovery-key';
import type { PointRecord } from '../format/manifest';
import { packHeader, packTrailer, type PackEntry } from '../format/pack';
import { PackCipher } from '../format/pack-cipher';
import type { RepositoryHeader } from '../format/repository-header';
import type { SessionRecord } from '../format/session-record';
import type { SlotSecret } from '../repository/keys/repository-keys';

export const id = (digit: string) => `${digit.repeat(8)}-${digit.repeat(4)}-4${digit.repeat(3)}-8${digit.repeat(3)}-${digit.repeat(12)}`;
const bytes = (length: number, start = 0) => Buffer.from(Array.from({ length }, (_, i) => (start + i) & 255));
const at = '2026-11-21T04:30:43.000Z';

export const masterKey = Buffer.alloc(32, 0x4d);
const dataKey = Buffer.alloc(32, 0x44);
const keyId = id('9');
export const goldenKeys = { current: { keyId, key: dataKey }, find: (wanted: string) => (wanted === keyId ? dataKey : undefined) };

export const goldenSecrets: readonly SlotSecret[] = [
  { kind: 'passphrase', secret: new Secret('correct horse battery staple') },
  { kind: 'key-file', secret: new Secret('5a'.repeat(32)) },
  { kind: 'recovery', secret: new Secret(formatRecoveryKey(bytes(32, 200))) },
];

export const goldenHeader: RepositoryHeader = {
  repositoryId: id('1'),
  createdAt: at,
  requestId: 'request',
  blockSizeBytes: 1_048_576,
  codec: 'zstd',
  codecLevel: 1,
  encryption: { cipher: 'aes-256-gcm', keys: `keys/${id('1')}.keys` },
};

export const goldenPackId = bytes(16, 1);
const payloads = [bytes(10), bytes(8192, 3)];
const traits = [
  { digest: bytes(32), rawLength: 65_536, codec: 1, kind: 0 },
  { digest: bytes(32, 100), rawLength: 8192, codec: 0, kind: 1 },
];
export const goldenCipher = new PackCipher(dataKey, keyId, goldenPackId);

/** The blocks in the clear. */
export const goldenPayloads: readonly Buffer[] = payloads;
export const goldenEntries: readonly PackEntry[] = traits.map((block, i) => ({
  ...block,
  offset: i === 0 ? 64 : 64 + 26,
  storedLength: (payloads[i] as Buffer).length + 16,
}));

export function goldenPack(): Buffer {
  const blocks = goldenEntries.flatMap((entry, i) => {
    const { body, tag } = goldenCipher.sealBlock(entry, entry.offset, payloads[i] as Buffer);
    return [body, tag];
  });
  const before = Buffer.concat([packHeader(goldenPackId, bytes(16, 50), goldenCipher), ...blocks]);
  return Buffer.concat([before, packTrailer(goldenPackId, goldenEntries, before.length, goldenCipher)]);
}

export const goldenSession: SessionRecord = {
  sessionId: id('2'),
  repositoryId: id('1'),
  kind: 'backup',
  pointIds: [id('3')],
  state: 'open',
  openedAt: at,
  leaseDurationMs: 60_000,
  disks: [],
};

export const goldenPoint: PointRecord = {
  pointId: id('3'),
  repositoryId: id('1'),
  sessionId: id('2'),
  platformId: id('5'),
  vmId: id('6'),
  vmName: 'web-01',
  jobName: 'nightly',
  checkpointId: id('7'),
  pointInTime: at,
  committedAt: at,
  consistency: 'quiesced',
  blockSizeBytes: 1_048_576,
  disks: [],
};
export const goldenManifestName = `points/20261121T043043000Z-${id('3')}.manifest`;

/** The same in a repository in the clear. */
export const goldenDraft = {
  head: {
    sessionId: id('2'),
    diskId: id('4'),
    sizeBytes: 2 ** 40,
    basePointId: '',
    baseDiskId: '',
    contentId: id('7'),
    storedBytes: 500,
    deduplicatedBytes: 1000,
  },
  pages: [
    { number: 0, isZeroed: true, positions: [], digests: [] },
    { number: 4095, isZeroed: false, positions: [0, 9, 255], digests: [bytes(32), Buffer.alloc(32), bytes(32, 100)] },
  ],
};
export const goldenDraftName = `drafts/${id('2')}.0123456789abcdef.000001-000001.draft`;
