import { randomBytes, randomUUID } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import type { DocumentServiceDefinition } from '../../proto/gen/tidemark/mover/v1/DocumentService';
import { loadService } from '../../proto/loader';
import { hostDocumentObject, MAX_HOST_DOCUMENT_BYTES } from '../format/host-document';
import { temporaryFolder, TestMover } from '../testing/test-mover';

const definition = loadService('tidemark/mover/v1/document_service.proto', 'tidemark.mover.v1.DocumentService').service;
const deadlineMs = 60_000;
const secret = '5a'.repeat(32);

describe.each(['in the clear', 'encrypted'])('tidemark.mover.v1.DocumentService, repository %s', (how) => {
  const scratch = temporaryFolder();
  let mover: TestMover;
  let repositoryId: string;
  beforeAll(async () => {
    mover = await TestMover.start(scratch.folder);
    const { repository } = await mover.repositories.call(
      'CreateRepository',
      {
        requestId: randomUUID(),
        location: mover.location(),
        ...(how === 'encrypted' && { key: { kind: 'REPOSITORY_KEY_KIND_KEY_FILE', secret } }),
      },
      { deadlineMs },
    );
    repositoryId = repository?.repositoryId ?? '';
  });
  afterAll(async () => {
    await mover.stop();
    scratch[Symbol.dispose]();
  });
  const documents = () => mover.client<DocumentServiceDefinition>(definition, mover.host);

  test('keeps, lists, replaces, gives back and removes', async () => {
    const client = documents();
    const put = (name: string, content: Buffer) => client.call('PutDocument', { repositoryId, name, content }, { deadlineMs });
    const list = async () => (await client.call('ListDocuments', { repositoryId, folder: 'configuration' }, { deadlineMs })).names;
    const get = async (name: string) => (await client.call('GetDocument', { repositoryId, name }, { deadlineMs })).content;
    expect(await list()).toEqual([]);
    const large = randomBytes(3 * 1024 * 1024);
    await put('configuration/b', Buffer.from('first'));
    await put('configuration/a', large);
    await put('other/c', Buffer.from('elsewhere'));
    await put('configuration/b', Buffer.from('second'));
    expect(await list()).toEqual(['configuration/a', 'configuration/b']);
    expect((await get('configuration/a')).equals(large)).toBe(true);
    expect((await get('configuration/b')).toString()).toBe('second');
    const stored = fs.readFileSync(path.join(scratch.folder, 'repository', hostDocumentObject('configuration/b')));
    expect(stored.includes('second')).toBe(how !== 'encrypted');
    const remove = () => client.call('RemoveDocument', { repositoryId, name: 'configuration/b' }, { deadlineMs });
    await remove();
    await remove();
    expect(await list()).toEqual(['configuration/a']);
    await expect(get('configuration/b')).rejects.toMatchObject({ code: 'DOCUMENT_NOT_FOUND', status: 'NOT_FOUND' });
    client.close();
  });

  test('refuses what is not a document, and says what is damaged', async () => {
    const client = documents();
    const put = (name: string, content = Buffer.from('x')) => client.call('PutDocument', { repositoryId, name, content }, { deadlineMs });
    const invalid = { code: 'ARGUMENT_INVALID', status: 'INVALID_ARGUMENT' };
    for (const name of ['../points/x', 'a', 'a/.b']) await expect(put(name)).rejects.toMatchObject(invalid);
    await expect(put('a/b', Buffer.alloc(MAX_HOST_DOCUMENT_BYTES + 1))).rejects.toMatchObject(invalid);
    await expect(client.call('ListDocuments', { repositoryId, folder: '..' }, { deadlineMs })).rejects.toMatchObject(invalid);
    await put('a/b');
    const file = path.join(scratch.folder, 'repository', hostDocumentObject('a/b'));
    fs.writeFileSync(file, fs.readFileSync(file).subarray(0, -1));
    await expect(client.call('GetDocument', { repositoryId, name: 'a/b' }, { deadlineMs })).rejects.toMatchObject({
      code: 'OBJECT_DAMAGED',
      status: 'DATA_LOSS',
    });
    const { operationId } = await mover.repositories.call('StartVerify', { requestId: randomUUID(), repositoryId }, { deadlineMs });
    const codes: string[] = [];
    for await (const { result } of mover.repositories.stream('WatchVerify', { operationId }, { idleTimeoutMs: 60_000 }))
      codes.push(...(result?.findings ?? []).map((finding) => `${finding.code} ${finding.objectName}`));
    expect(codes).toEqual([`OBJECT_DAMAGED ${hostDocumentObject('a/b')}`]);
    client.close();
    const stranger = mover.client<DocumentServiceDefinition>(definition, mover.worker);
    await expect(stranger.call('ListDocuments', { repositoryId, folder: 'a' }, { deadlineMs })).rejects.toMatchObject({
      code: 'ROLE_NOT_ALLOWED',
    });
    stranger.close();
  });
});
