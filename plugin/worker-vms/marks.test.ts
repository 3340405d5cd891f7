import { imageDiskDescription, isWorkerVm, parseImageDiskDescription, parseWorkerComment, workerComment } from './marks';

const mark = { workerId: 'w', madeBy: 'p', operationId: 'o' };

it('a comment says whose worker a VM is, unless somebody edited it', () => {
  expect(parseWorkerComment(workerComment(mark))).toEqual(mark);
  for (const comment of ['', 'tidemark-worker', `${workerComment(mark)} and more`, 'a tidemark-worker worker=w plugin=p operation=o'])
    expect(parseWorkerComment(comment)).toBeUndefined();
});

it('a VM is a worker by its tag or by its comment', () => {
  const tags = (...names: string[]) => names.map((name) => ({ id: name, name }));
  expect(isWorkerVm({ comment: '', tags: tags('tidemark', 'tidemark-worker') })).toBe(true);
  expect(isWorkerVm({ comment: workerComment(mark), tags: undefined })).toBe(true);
  expect(isWorkerVm({ comment: 'my tidemark-worker notes', tags: tags('tidemark') })).toBe(false);
});

it('a kept image says of which version it is and whether it is whole', () => {
  const image = { version: '1.2.0-ab', sha256: 'a'.repeat(64), madeBy: 'p', state: 'complete' } as const;
  expect(parseImageDiskDescription(imageDiskDescription(image))).toEqual(image);
  expect(parseImageDiskDescription(imageDiskDescription({ ...image, state: 'uploading' }))?.state).toBe('uploading');
  expect(parseImageDiskDescription(imageDiskDescription(image).replace('complete', 'something'))).toBeUndefined();
  expect(parseImageDiskDescription('')).toBeUndefined();
});
