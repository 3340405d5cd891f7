import { execFile } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type LabProcess, repositoryRoot, startLabProcess } from '../testing/lab-process';

/**
 * The lab as oVirt's own programs see it: the project's Python SDK (which speaks XML) and imageio's own client drive backups and
 * a restore. What they cannot do here, they could not do against an engine either.
 */
const run = promisify(execFile);
const scripts = join(repositoryRoot, 'lab', 'fidelity');

async function python(script: string, args: readonly string[]): Promise<unknown> {
  const { stdout } = await run(join(repositoryRoot, '.venv', 'bin', 'python'), [join(scripts, script), ...args], {
    timeout: 200_000,
    env: { ...process.env, PYTHONDONTWRITEBYTECODE: '1' },
  });
  return JSON.parse(stdout.trim().split('\n').at(-1) ?? '');
}

describe('oVirt’s own Python SDK and imageio client', () => {
  let lab: LabProcess;
  let output: string;

  beforeAll(async () => {
    lab = await startLabProcess(
      {
        clusters: [
          { name: 'Default', level: '4.7', hosts: ['host-1'] },
          { name: 'Level45', level: '4.5', hosts: ['host-2'] },
        ],
        vms: [
          {
            name: 'hybrid',
            cluster: 'Default',
            disks: [
              { name: 'hybrid-cow', sizeMib: 256, format: 'cow' },
              { name: 'hybrid-raw', sizeMib: 64, format: 'raw', domain: 'data-2' },
            ],
          },
          { name: 'live', cluster: 'Level45', disks: [{ name: 'live-cow', sizeMib: 256, format: 'cow' }] },
        ],
      },
      { clockFactor: 20 },
    );
    output = join(lab.directory, 'output');
    mkdirSync(output);
  });

  afterAll(async () => {
    await lab[Symbol.asyncDispose]();
  });

  it('back up a running VM of level 4.7 fully and then incrementally, raw disks fully', async () => {
    expect(await python('backup.py', [lab.readyFile, 'hybrid', output])).toEqual({
      disks: [
        { name: 'hybrid-cow', mode: 'incremental', identical: true, fullDiffers: true },
        { name: 'hybrid-raw', mode: 'full', identical: true, fullDiffers: true },
      ],
      chain: true,
      snapshotsLeft: 0,
      statuses: ['ok', 'ok'],
    });
  });

  it('back up a running VM of level 4.5 live, fully and then incrementally', async () => {
    expect(await python('backup.py', [lab.readyFile, 'live', output])).toEqual({
      disks: [{ name: 'live-cow', mode: 'incremental', identical: true, fullDiffers: true }],
      chain: true,
      snapshotsLeft: 0,
      statuses: ['ok'],
    });
  });

  it('upload a disk, make a VM around it, copy it by its OVF, and read the engine’s refusals', async () => {
    expect(await python('restore.py', [lab.readyFile, output])).toEqual({
      identical: true,
      status: 'up',
      host: 'host-1',
      memory: 1024 ** 3,
      copyHasOwnId: true,
      copyHasOwnMac: true,
      eventCode: 9801,
      eventText: 'restored <&> ok',
      diskLeft: 'ok',
      provisionedSize: 1024 ** 3,
      refusals: {
        transferOfPluggedDisk: { code: 409, hasFault: true },
        startTwice: { code: 409, hasFault: true },
        stopTwice: { code: 409, hasFault: true },
        unknownDisk: { code: 404, hasFault: false },
      },
    });
  });
});
