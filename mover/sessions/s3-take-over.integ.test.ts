import { randomUUID } from 'node:crypto';
import { Secret } from '../../common/log/redact';
import { openKeys } from '../repository/keys/open-keys';
import { readHeader } from '../repository/repository';
import { openLocation } from '../repository/served/locations';
import { CephBucket } from '../testing/ceph-bucket';
import { readDisk, sampleBlock } from '../testing/test-disk';
import { temporaryFolder, TestMover } from '../testing/test-mover';
import { testKey } from '../testing/test-repository';
import { listDrafts, readDraftDigests } from './drafts';

const block = 65_536;
const blocks = 300;
const size = blocks * block;

let ceph: CephBucket;

beforeAll(async () => (ceph = await CephBucket.start()), 600_000);
afterAll(() => ceph.stop());

const rawOf = (number: number) => (number % 10 === 7 ? Buffer.alloc(block) : sampleBlock(number + 1, block));
const contentOf = (from: number, to: number) => new Map(Array.from({ length: to - from }, (_, i) => [from + i, rawOf(from + i)]));

test.each([
  ['in the clear', undefined],
  ['encrypted', testKey],
])(
  'a session on S3, %s, goes on at another gateway, and its first one loses it',
  async (_name, key) => {
    using folders = temporaryFolder();
    const location = ceph.location(randomUUID());
    const { accessKeyId, secretAccessKey } = ceph.ceph.access;
    const access = { accessKeyId, secretAccessKey };
    await using first = await TestMover.start(`${folders.folder}/first`);
    await using second = await TestMover.start(`${folders.folder}/second`, {}, first);
    const settings = { blockSizeBytes: block, compression: 'COMPRESSION_ZSTD' as const };
    const keyToSend = key && { kind: 'REPOSITORY_KEY_KIND_KEY_FILE' as const, secret: key.secret.reveal() };
    const place = { location, access, ...(keyToSend && { key: keyToSend }) };
    const request = { requestId: randomUUID(), ...place, settings };
    const { repository } = await first.repositories.call('CreateRepository', request, { deadlineMs: 60_000 });
    const repositoryId = repository?.repositoryId ?? '';
    await second.repositories.call('AttachRepository', place, { deadlineMs: 60_000 });

    const sessionId = await first.openSession(repositoryId, 'BACKUP');
    const lane = await first.lane(sessionId, repositoryId);
    const { handle } = await lane.openDisk('one', size, '', '', 'content');
    await lane.send(handle, contentOf(0, 200));
    // Its commit makes durable what came for the other disk too.
    const small = await lane.openDisk('two', block, '', '', 'content');
    await lane.send(small.handle, new Map([[0, rawOf(1000)]]));
    expect((await lane.commitDisk(small.handle)).missing).toEqual([]);
    const store = await openLocation(location, { access: { accessKeyId, secretAccessKey: new Secret(secretAccessKey) }, writer: 'test' });
    const keys = await openKeys(store, await readHeader(store), key);
    const written = async () => {
      const digests = new Set<string>();
      for await (const digest of readDraftDigests(store, sessionId, keys)) digests.add(digest.toString('hex'));
      return digests.size;
    };
    for (const until = Date.now() + 240_000; (await written()) < 180;) {
      if (Date.now() > until) throw new Error('it was not written down');
      await new Promise((resolve) => setTimeout(resolve, 200));
    }

    const open = { sessionId, repositoryId, kind: 'SESSION_KIND_BACKUP' as const, leaseDuration: { seconds: 60, nanos: 0 } };
    await expect(second.sessions.call('OpenSession', open, { deadlineMs: 60_000 })).rejects.toMatchObject({ code: 'SESSION_ELSEWHERE' });
    await second.sessions.call('OpenSession', { ...open, takeOver: true }, { deadlineMs: 60_000 });
    const other = await second.lane(sessionId, repositoryId);
    expect(await other.openDisk('two', block, '', '', 'content')).toMatchObject({ committed: true });
    const again = await other.openDisk('one', size, '', '', 'content');
    expect(again.hasMapped).toBe(true);
    const mapped = await other.listMapped(again.handle, blocks);
    expect([...mapped].sort((a, b) => a - b)).toEqual([...contentOf(0, 200).keys()]);
    await other.send(again.handle, contentOf(200, blocks));
    expect((await other.commitDisk(again.handle)).missing).toEqual([]);
    await expect(lane.commitDisk(handle)).rejects.toMatchObject({ code: 'SESSION_ELSEWHERE' });
    expect(await listDrafts(store, sessionId)).toEqual([]);
    const pointId = await second.commit(sessionId, [
      { diskId: 'one', sizeBytes: size },
      { diskId: 'two', sizeBytes: block },
    ]);
    const reader = await second.lane(await second.openSession(repositoryId, 'RESTORE', [pointId]), repositoryId, ['read'], [pointId]);
    expect((await readDisk(reader, pointId, 'one')).equals(Buffer.concat([...contentOf(0, blocks).values()]))).toBe(true);
    expect((await readDisk(reader, pointId, 'two')).equals(rawOf(1000))).toBe(true);
    reader.close();
    await store.close();
  },
  600_000,
);
