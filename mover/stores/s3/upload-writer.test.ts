/** Large objects while the server is away. */
import type { CompletedPart } from '@aws-sdk/client-s3';
import { RepositoryErrors } from '../../errors/mover-errors';
import { STORE_PIECE_BYTES } from '../store';
import { UploadWriter } from './upload-writer';

const away = () => RepositoryErrors.REPOSITORY_IO({ what: 'packs/a', reason: 'ECONNREFUSED' });

/** Keeps what it is sent; each request asks `before` first, which may throw. */
function fakeBucket(before: (request: string) => void) {
  const parts = new Map<number, Buffer>();
  const requests: string[] = [];
  let whole: Buffer | undefined;
  const ask = <T>(request: string, answer: () => T): Promise<T> => {
    requests.push(request);
    return new Promise((resolve) => {
      before(request);
      resolve(answer());
    });
  };
  const bucket = {
    put: (_: string, content: Uint8Array) =>
      ask('put', () => {
        whole = Buffer.from(content);
        return true;
      }),
    beginUpload: () => ask('begin', () => 'upload'),
    uploadPart: (_: string, uploadId: string, number: number, content: Buffer) =>
      ask(`part ${number}`, () => {
        expect(uploadId).toBe('upload');
        parts.set(number, Buffer.from(content));
        return { PartNumber: number } satisfies CompletedPart;
      }),
    completeUpload: (_: string, __: string, completed: CompletedPart[]) =>
      ask('complete', () => {
        whole = Buffer.concat(completed.map(({ PartNumber }) => parts.get(PartNumber ?? 0) ?? Buffer.alloc(0)));
      }),
    abortUpload: () => ask('abort', () => undefined),
    sizeOf: () => Promise.resolve(whole?.length ?? 0),
  };
  return { bucket, requests, whole: () => whole };
}

/** Fails so many requests of each kind. */
const failing = (times: number, error: () => Error) => {
  const left = new Map<string, number>();
  return (request: string) => {
    const more = left.get(request) ?? times;
    left.set(request, more - 1);
    if (more > 0) throw error();
  };
};

const piece = (value: number) => Buffer.alloc(STORE_PIECE_BYTES, value);

async function write(writer: UploadWriter, pieces: number): Promise<void> {
  for (let i = 1; i < pieces; i++) await writer.append(piece(i));
  await writer.finish(piece(pieces), 1000);
}

const expected = (pieces: number) =>
  Buffer.concat([...Array.from({ length: pieces - 1 }, (_, i) => piece(i + 1)), piece(pieces).subarray(0, 1000)]);

test.each([
  ['in one request', 2],
  ['in parts', 6],
])('an object %s is there as a whole after the server was away for moments', async (_, pieces) => {
  const { bucket, whole } = fakeBucket(failing(2, away));
  await write(new UploadWriter(bucket, 'packs/a'), pieces);
  expect(whole()?.equals(expected(pieces))).toBe(true);
});

test('what waiting does not help fails at once', async () => {
  const { bucket, requests } = fakeBucket(failing(99, () => RepositoryErrors.REPOSITORY_FULL({ what: 'bucket' })));
  await expect(write(new UploadWriter(bucket, 'packs/a'), 2)).rejects.toMatchObject({ code: 'REPOSITORY_FULL' });
  expect(requests).toEqual(['put']);
});

test('a server that stays away is waited for no longer than told', async () => {
  const { bucket, requests } = fakeBucket(failing(99, away));
  await expect(write(new UploadWriter(bucket, 'packs/a', 2_000), 2)).rejects.toMatchObject({ code: 'REPOSITORY_IO' });
  expect(requests.length).toBeGreaterThan(1);
});

test('an object that nobody wants any more waits for nothing', async () => {
  const { bucket, requests } = fakeBucket(failing(99, away));
  const writer = new UploadWriter(bucket, 'packs/a', 3_600_000);
  for (let i = 1; i <= 2; i++) await writer.append(piece(i));
  await writer.abandon();
  const asked = requests.length;
  await expect(writer.append(piece(3))).rejects.toMatchObject({ code: 'REPOSITORY_IO' });
  expect(requests.length).toBe(asked);
});
