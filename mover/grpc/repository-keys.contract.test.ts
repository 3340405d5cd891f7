import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { sampleBlock } from '../testing/test-disk';
import { temporaryFolder, TestMover } from '../testing/test-mover';

const block = 65_536;
const deadlineMs = 60_000;
const keyFile = (digit: string) => ({ kind: 'REPOSITORY_KEY_KIND_KEY_FILE' as const, secret: digit.repeat(64) });

describe('keys of encrypted repositories', () => {
  const scratch = temporaryFolder();
  let mover: TestMover;
  beforeAll(async () => {
    mover = await TestMover.start(scratch.folder);
  });
  afterAll(async () => {
    await mover.stop();
    scratch[Symbol.dispose]();
  });

  const create = (name: string, key: object, requestId: string = randomUUID()) =>
    mover.repositories.call(
      'CreateRepository',
      { requestId, location: mover.location(name), settings: { blockSizeBytes: block }, key },
      { deadlineMs },
    );
  const slots = (repositoryId: string) => mover.repositories.call('ListRepositoryKeySlots', { repositoryId }, { deadlineMs });
  const attach = (name: string, key?: object) =>
    mover.repositories.call('AttachRepository', { location: mover.location(name), ...(key && { key }) }, { deadlineMs });
  const detach = (repositoryId: string) => mover.repositories.call('DetachRepository', { repositoryId }, { deadlineMs });

  test('a passphrase, and the recovery key when it is forgotten; a wrong one is refused and nothing is written', async () => {
    const passphrase = { kind: 'REPOSITORY_KEY_KIND_PASSPHRASE' as const, secret: 'correct horse battery' };
    const { repository, recoveryKey } = await create('secret', passphrase);
    const id = repository?.repositoryId ?? '';
    expect(repository).toMatchObject({ encrypted: true });
    expect(recoveryKey).toMatch(/^([0-9A-HJKMNP-TV-Z]{5}-){12}[0-9A-HJKMNP-TV-Z]{5}$/);
    const pointId = await mover.backup(id, 3 * block, new Map([[1, sampleBlock(1, block)]]));
    await detach(id);

    const folder = path.join(scratch.folder, 'secret');
    const before = fs.readdirSync(folder, { recursive: true });
    await expect(attach('secret')).rejects.toMatchObject({ code: 'REPOSITORY_KEY_NEEDED', status: 'FAILED_PRECONDITION' });
    await expect(attach('secret', { ...passphrase, secret: 'correct horse buttery' })).rejects.toMatchObject({
      code: 'REPOSITORY_KEY_WRONG',
      status: 'PERMISSION_DENIED',
    });
    await expect(attach('secret', { ...passphrase, secret: 'short' })).rejects.toMatchObject({ code: 'ARGUMENT_INVALID' });
    expect(fs.readdirSync(folder, { recursive: true })).toEqual(before);

    await attach('secret', { kind: 'REPOSITORY_KEY_KIND_RECOVERY', secret: recoveryKey.toLowerCase().replaceAll('-', ' ') });
    expect((await mover.repositories.call('GetPoint', { repositoryId: id, pointId }, { deadlineMs })).configuration).toBe('{}');
    // The mover opens it with the recovery key now, so that this one stays; the passphrase may go.
    const listed = (await slots(id)).slots;
    expect(listed.map(({ kind, inUse }) => [kind, inUse])).toEqual([
      ['REPOSITORY_KEY_KIND_PASSPHRASE', false],
      ['REPOSITORY_KEY_KIND_RECOVERY', true],
    ]);
    const remove = (slotId: string | undefined) =>
      mover.repositories.call('RemoveRepositoryKeySlot', { repositoryId: id, slotId: slotId ?? '' }, { deadlineMs });
    await expect(remove(listed[1]?.slotId)).rejects.toMatchObject({ code: 'REPOSITORY_KEY_SLOT_IN_USE' });
    await remove(listed[0]?.slotId);
    await expect(remove(listed[0]?.slotId)).rejects.toMatchObject({ code: 'REPOSITORY_KEY_SLOT_NOT_FOUND', status: 'NOT_FOUND' });
    await detach(id);
    await expect(attach('secret', passphrase)).rejects.toMatchObject({ code: 'REPOSITORY_KEY_WRONG' });
    expect(JSON.stringify(mover.logged)).not.toMatch(new RegExp(`battery|${recoveryKey}`));
  });

  test('a repeated creation answers the same repository and a recovery key that works; another key is refused', async () => {
    const requestId = randomUUID();
    const first = await create('again', keyFile('a'), requestId);
    const second = await create('again', keyFile('a'), requestId);
    const id = first.repository?.repositoryId ?? '';
    expect(second.repository?.repositoryId).toBe(id);
    await expect(create('again', keyFile('b'), requestId)).rejects.toMatchObject({ code: 'REPOSITORY_KEY_WRONG' });
    await expect(create('never', keyFile('x'))).rejects.toMatchObject({ code: 'ARGUMENT_INVALID' });
    expect(fs.existsSync(path.join(scratch.folder, 'never', 'tidemark-repository'))).toBe(false);
    await detach(id);
    const recovery = (secret: string) => attach('again', { kind: 'REPOSITORY_KEY_KIND_RECOVERY', secret });
    await expect(recovery(first.recoveryKey)).rejects.toMatchObject({ code: 'REPOSITORY_KEY_WRONG' });
    await recovery(second.recoveryKey);
  });

  test('rotation and further keys: every slot goes on to open everything; a restarted mover attaches by itself', async () => {
    using other = temporaryFolder();
    const first = await TestMover.start(other.folder);
    const make = await first.repositories.call(
      'CreateRepository',
      { requestId: randomUUID(), location: first.location(), settings: { blockSizeBytes: block }, key: keyFile('c') },
      { deadlineMs },
    );
    const repositoryId = make.repository?.repositoryId ?? '';
    const before = await first.backup(repositoryId, 3 * block, new Map([[0, sampleBlock(1, block)]]));
    const add = (slotId: string, key: object) =>
      first.repositories.call('AddRepositoryKeySlot', { repositoryId, slotId, key }, { deadlineMs });
    await add(randomUUID(), keyFile('d'));
    await expect(add('not-a-uuid', keyFile('e'))).rejects.toMatchObject({ code: 'ARGUMENT_INVALID' });
    const { recoveryKey } = await add(randomUUID(), { kind: 'REPOSITORY_KEY_KIND_RECOVERY', secret: '' });
    const { rotatedAt } = await first.repositories.call('RotateRepositoryKey', { repositoryId }, { deadlineMs });
    expect(await first.repositories.call('ListRepositoryKeySlots', { repositoryId }, { deadlineMs })).toMatchObject({
      rotatedAt,
      dataKeyCount: 2,
    });
    const after = await first.backup(repositoryId, 3 * block, new Map([[0, sampleBlock(2, block)]]));
    await first.stop();
    const kept = fs.readFileSync(path.join(other.folder, 'data', 'repositories.json'), 'utf8');
    expect(kept).not.toContain('c'.repeat(64));

    const second = await TestMover.start(other.folder);
    const points = async () => {
      const ids: (string | undefined)[] = [];
      for await (const { point } of second.repositories.stream('ListPoints', { repositoryId, vmId: '' }, { idleTimeoutMs: deadlineMs }))
        ids.push(point?.pointId);
      return ids;
    };
    expect(await points()).toEqual([before, after]);
    for (const key of [keyFile('d'), keyFile('c'), { kind: 'REPOSITORY_KEY_KIND_RECOVERY', secret: recoveryKey }]) {
      await second.repositories.call('DetachRepository', { repositoryId }, { deadlineMs });
      await second.repositories.call('AttachRepository', { location: second.location(), key } as never, { deadlineMs });
      expect(await points()).toEqual([before, after]);
    }
    await second.stop();
  });

  test('keys that a creation left which was cut off do not stand in the way; anything else of that name does', async () => {
    for (const [name, file] of [
      ['cut-off', `${randomUUID()}.keys`],
      ['foreign', 'id_rsa'],
    ] as const) {
      fs.mkdirSync(path.join(scratch.folder, name, 'keys'), { recursive: true });
      fs.writeFileSync(path.join(scratch.folder, name, 'keys', file), 'x');
    }
    expect((await create('cut-off', keyFile('a'))).repository).toMatchObject({ encrypted: true });
    await expect(create('foreign', keyFile('a'))).rejects.toMatchObject({ code: 'REPOSITORY_LOCATION_NOT_EMPTY' });
  });

  test('a repository in the clear has no keys; one whose header was exchanged for such a one is not written to', async () => {
    const id = await mover.createRepository(block, 'clear');
    const notEncrypted = { code: 'REPOSITORY_NOT_ENCRYPTED', status: 'FAILED_PRECONDITION' };
    await expect(slots(id)).rejects.toMatchObject(notEncrypted);
    await expect(mover.repositories.call('RotateRepositoryKey', { repositoryId: id }, { deadlineMs })).rejects.toMatchObject(notEncrypted);
    await detach(id);
    await expect(attach('clear', keyFile('a'))).rejects.toMatchObject(notEncrypted);
  });
});
