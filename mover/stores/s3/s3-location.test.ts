import { formatS3Location, isS3Location, parseS3Location } from './s3-location';

describe('S3 locations', () => {
  test.each([
    ['s3:https://s3.example/backup', { endpoint: 'https://s3.example', bucket: 'backup', prefix: '' }],
    ['s3:http://[fd00::5]:9000/backup/site%20a/vms', { endpoint: 'http://[fd00::5]:9000', bucket: 'backup', prefix: 'site a/vms/' }],
    [
      's3:https://s3.eu-central-1.amazonaws.com/backup?region=eu-central-1&addressing=virtual',
      { endpoint: 'https://s3.eu-central-1.amazonaws.com', bucket: 'backup', region: 'eu-central-1', addressing: 'virtual' },
    ],
  ])('%s', (text, expected) => {
    expect(isS3Location(text)).toBe(true);
    const at = parseS3Location(text);
    expect(at).toMatchObject(expected);
    expect(formatS3Location(at)).toBe(text);
  });

  test('are written in one way', () => {
    expect(formatS3Location(parseS3Location('s3:https://S3.example:443/backup//a/?region=us-east-1'))).toBe(
      's3:https://s3.example/backup/a',
    );
  });

  test.each([
    ['s3:backup', 'no URL'],
    ['s3:ftp://s3.example/backup', 'neither https nor http'],
    ['s3:https://s3.example', 'bucket name'],
    ['s3:https://s3.example/B', 'bucket name'],
    ['s3:https://key:secret@s3.example/backup', 'keys do not belong'],
    ['s3:https://s3.example/backup?addressing=both', 'neither path nor virtual'],
    ['s3:https://s3.example/backup?style=path', 'no option'],
  ])('%s is refused', (text, problem) => {
    expect(() => parseS3Location(text)).toThrow(problem);
  });
});
