import { createAuthority } from '../../common/tls/authority';
import { createToken } from '../../common/tls/token';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { PassThrough } from 'node:stream';
import { runCli } from './cli';
import type { CliProcess } from './context';

describe('mover enrol --server', () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tidemark-set-up-'));
  const config = path.join(folder, 'etc', 'mover.json');
  let token: string;
  beforeAll(async () => {
    token = createToken((await createAuthority('CA')).certificatePem);
    fs.writeFileSync(path.join(folder, 'token'), `${token}\n`);
  });
  afterAll(() => fs.rmSync(folder, { recursive: true }));

  const run = async (stdin: string, ...args: string[]) => {
    const streams = { stdin: new PassThrough(), stdout: new PassThrough(), stderr: new PassThrough() };
    streams.stdin.end(stdin);
    const process = { env: {}, on: () => undefined, removeListener: () => undefined, ...streams } as unknown as CliProcess;
    const code = await runCli(
      ['mover', 'enrol', '--config', config, '--data-folder', path.join(folder, 'data'), ...args, '--json'],
      process,
    );
    return { code, answer: JSON.parse(String(streams.stdout.read())) as Record<string, unknown> };
  };
  const written = () => JSON.parse(fs.readFileSync(config, 'utf8')) as Record<string, unknown>;

  it('writes configuration and token, with the usual ports', async () => {
    const { code } = await run(
      '',
      '--server',
      'backup.example',
      '--token-file',
      path.join(folder, 'token'),
      '--address',
      'vault',
      '--gateway',
    );
    expect(code).toBe(0);
    expect(written()).toEqual({
      dataFolder: path.join(folder, 'data'),
      addresses: ['vault'],
      gateway: true,
      host: {
        endpoint: 'backup.example:8444',
        enrolmentEndpoint: 'backup.example:8449',
        enrolmentTokenFile: path.join(folder, 'etc', 'mover-token'),
      },
    });
    const kept = path.join(folder, 'etc', 'mover-token');
    expect([fs.readFileSync(kept, 'utf8').trim(), fs.statSync(kept).mode & 0o777]).toEqual([token, 0o600]);
    expect(fs.readFileSync(config, 'utf8')).not.toContain(token);
  });

  it.each([
    ['10.0.0.5:9444', '10.0.0.5:9444', '10.0.0.5:8449'],
    ['fd00::5', '[fd00::5]:8444', '[fd00::5]:8449'],
    ['[fd00::5]:9444', '[fd00::5]:9444', '[fd00::5]:8449'],
  ])('understands --server %s; the token may come from standard input', async (server, endpoint, enrolmentEndpoint) => {
    const { code } = await run(token, '--server', server, '--token-file', '-');
    expect(code).toBe(0);
    expect(written()['host']).toMatchObject({ endpoint, enrolmentEndpoint });
    expect(written()['addresses']).toContain(os.hostname());
  });

  it('refuses what cannot work, before it writes anything', async () => {
    fs.rmSync(path.dirname(config), { recursive: true, force: true });
    const missing = await run('', '--server', 'backup.example');
    const wrong = await run('no token', '--server', 'backup.example', '--token-file', '-');
    const port = await run(token, '--server', 'backup.example:none', '--token-file', '-');
    for (const { code, answer } of [missing, wrong, port]) {
      expect(code).toBe(2);
      expect(answer).toMatchObject({ error: { code: 'USAGE', message: expect.stringMatching(/^--(token-file|server)/) as string } });
    }
    expect(fs.existsSync(config)).toBe(false);
  });
});
