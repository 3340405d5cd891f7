import { loginWithCli, runCliIn } from '../../testing/cli-user';
import type { FakeMover } from '../../testing/fake-mover';
import { TestInstallation } from '../../testing/test-installation';
import { durationOf } from '../quantities';
import { compressionFrom } from './repository-edit';

describe('options', () => {
  it.each([
    ['none', { compression: 'none' }],
    ['lz4', { compression: 'lz4' }],
    ['zstd', { compression: 'zstd' }],
    ['zstd:19', { compression: 'zstd', compressionLevel: 19 }],
  ])('read the compression %s', (text, change) => expect(compressionFrom(text)).toEqual(change));

  it.each(['', 'gzip', 'zstd:0', 'zstd:20', 'lz4:1', 'zstd:'])('refuse the compression "%s"', (text) => {
    expect(() => compressionFrom(text)).toThrow('--compression');
  });

  it.each([
    ['90s', 90_000],
    ['30m', 1_800_000],
    ['12h', 43_200_000],
    ['7d', 604_800_000],
  ])('read the duration %s', (text, ms) => expect(durationOf('--grace', text)).toBe(ms));

  it.each(['', '7', '7 weeks', '-1d'])('refuse the duration "%s"', (text) => expect(() => durationOf('--grace', text)).toThrow('--grace'));
});

describe('tidemark repository edit', () => {
  let at: TestInstallation;
  let mover: FakeMover;

  beforeAll(async () => {
    at = new TestInstallation();
    await at.start();
    await at.login();
    ({ mover } = await at.furnish());
    await loginWithCli(at);
  });
  afterAll(() => at.remove());

  const run = (...argv: string[]) => runCliIn(at.folder, argv);

  it('changes what is said and nothing else, and shows it', async () => {
    const name = (JSON.parse((await run('repository', 'list', '--json')).out) as { items: { name: string }[] }).items[0]?.name ?? '';
    const edited = await run('repository', 'edit', name, '--compression', 'lz4', '--hard-free', '50G', '--grace', '7d');
    expect(edited).toMatchObject({ code: 0, out: expect.stringContaining('is changed: lz4') });
    expect(mover.repository.settings).toMatchObject({ compression: 'COMPRESSION_LZ4', compressionLevel: 1, grace: { seconds: '604800' } });
    expect(Number(mover.repository.settings.hardFreeBytes)).toBe(50 * 1024 ** 3);
    expect(mover.repository.settings.softFreeBytes).toBeUndefined();
    expect((await run('repository', 'edit', name, '--compression', 'zstd:3', '--capacity', '0')).out).toContain('zstd:3');
    expect(mover.repository.settings).toMatchObject({ compression: 'COMPRESSION_ZSTD', compressionLevel: 3, grace: { seconds: '604800' } });
    const shown = await run('repository', 'show', name);
    expect(shown.out).toMatch(/compression: +zstd:3/);
    expect(shown.out).toMatch(/grace: +168h|grace: +7d/);
    expect(JSON.parse((await run('repository', 'show', name, '--json')).out)).toMatchObject({
      compression: 'zstd',
      compressionLevel: 3,
      hardFreeBytes: 50 * 1024 ** 3,
      graceMs: 604_800_000,
    });
  });

  it('says what is wrong', async () => {
    expect(await run('repository', 'edit', 'nobody', '--grace', '1d')).toMatchObject({ code: 4 });
    expect(await run('repository', 'edit', 'nobody')).toMatchObject({ code: 2, err: expect.stringContaining('--compression') });
    expect(await run('repository', 'edit', 'nobody', '--capacity', 'much')).toMatchObject({
      code: 2,
      err: expect.stringContaining('--capacity'),
    });
  });
});
