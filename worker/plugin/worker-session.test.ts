import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Lifecycle } from '../../common/lifecycle/lifecycle';
import { processInfo } from '../../common/lifecycle/process-info';
import { TidemarkError } from '../../common/errors/tidemark-error';
import { loggerTo } from '../../common/log/logger';
import { timestampFromWire, timestampToWire } from '../../common/rpc/bytes';
import { createAuthority, issueIdentity } from '../../common/tls/authority';
import type { Authority } from '../../common/tls/authority';
import { ProcessIdentity } from '../../common/tls/identity';
import { fingerprintOf } from '../../common/tls/token';
import { composeWorker, workerCapabilities, workerProtocols } from '../composition';
import { workerConfigSchema } from '../config';
import { PluginDouble } from '../testing/plugin-double';

let folder: string;
let authority: Authority;
let next: Authority;
let plugin: PluginDouble;
let identity: ProcessIdentity;
let lifecycle: Lifecycle | undefined;
const refusals: string[] = [];
const logged: { text: string; fields: Record<string, unknown> }[] = [];

beforeAll(async () => {
  [authority, next] = await Promise.all([createAuthority('first'), createAuthority('second')]);
});
beforeEach(async () => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tidemark-session-'));
  plugin = await PluginDouble.start(authority);
  const material = await issueIdentity(authority, { role: 'worker', id: 'w1' }, [], 7 * 86_400_000);
  identity = ProcessIdentity.store(path.join(folder, 'identity'), material);
  refusals.length = 0;
  logged.length = 0;
});
afterEach(async () => {
  await lifecycle?.stop();
  lifecycle = undefined;
  plugin.stop();
  fs.rmSync(folder, { recursive: true, force: true });
});

/** A whole worker, composed as the process is. */
async function startWorker(settings: Record<string, unknown> = {}) {
  const config = workerConfigSchema.parse({
    dataFolder: folder,
    threads: 1,
    plugin: { endpoint: `127.0.0.1:${plugin.port}` },
    ...settings,
  });
  const info = processInfo(folder, workerProtocols, workerCapabilities);
  const worker = composeWorker(
    config,
    loggerTo((_level, text, fields) => logged.push({ text, fields: { ...fields } })),
    info,
    identity,
    (code) => refusals.push(code),
  );
  lifecycle = new Lifecycle(worker.services, worker.logger);
  await lifecycle.start();
  return worker;
}

async function eventually(what: string, condition: () => boolean): Promise<void> {
  for (const until = Date.now() + 150_000; !condition();) {
    if (Date.now() > until) throw new Error(`${what} never came true`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

const bundleOf = (...authorities: Authority[]) => authorities.map((one) => `${one.certificatePem}\n`).join('');
const trusted = () => plugin.heard.findLast((message) => message.heartbeat)?.heartbeat?.trust;

describe('what a worker says of itself', () => {
  it('is its machine, its trust and its clock', async () => {
    await startWorker({ taskSlots: 3 });
    const hello = await plugin.hear('Hello', (message) => message.hello);
    expect(hello).toMatchObject({
      taskSlots: 3,
      imageVersion: '',
      cpuCount: os.availableParallelism(),
      memoryBytes: String(os.totalmem()),
    });
    expect(hello.process?.capabilities).toEqual(workerCapabilities);
    expect(hello.trust?.trustedCaFingerprints).toEqual([fingerprintOf(authority.certificatePem)]);
    const heartbeat = await plugin.hear('a heartbeat', (message) => message.heartbeat);
    const sentAt = timestampFromWire(heartbeat.sentAt);
    expect(Math.abs((sentAt?.getTime() ?? 0) - Date.now())).toBeLessThan(30_000);
    expect(heartbeat.trust).toEqual(hello.trust);
  });

  it('has more in it when the worker is a VM of ours', async () => {
    await startWorker({ clusterId: 'c1', platformId: 'p1', imageVersion: '1.2.3', addresses: ['10.0.0.9'] });
    const hello = await plugin.hear('Hello', (message) => message.hello);
    expect(hello).toMatchObject({ imageVersion: '1.2.3', clusterId: 'c1', addresses: ['10.0.0.9'] });
    expect(hello.process?.capabilities).toEqual(expect.arrayContaining(['disk-attachment', 'log-lines']));
  });
});

describe('drain and resume', () => {
  const task = (taskId: string) => ({ startTask: { taskId, correlationId: 'c', backupDisk: {} } });
  const resultOf = (taskId: string) => plugin.hear(`the result of ${taskId}`, ({ result }) => result?.taskId === taskId && result);

  it('stop tasks and let them come again', async () => {
    await startWorker();
    await plugin.hear('Hello', (message) => message.hello);
    plugin.say({ drain: {} });
    await plugin.hear('Drained', (message) => message.drained);
    plugin.say(task('a'));
    expect((await resultOf('a')).failure?.code).toBe('WORKER_SLOTS_TAKEN');
    plugin.say({ resume: {} });
    plugin.say(task('b'));
    // Judged, which it would not have been while draining.
    expect((await resultOf('b')).failure?.code).toBe('ARGUMENT_INVALID');
  });

  it('do not outlast the stream: a plug-in that still wants it says so again', async () => {
    await startWorker();
    await plugin.hear('Hello', (message) => message.hello);
    plugin.say({ drain: {} });
    await plugin.hear('Drained', (message) => message.drained);
    plugin.drop();
    await eventually('a second stream', () => plugin.hellos.length === 2);
    plugin.say(task('c'));
    expect((await resultOf('c')).failure?.code).toBe('ARGUMENT_INVALID');
  });
});

test('its own standstill is not taken for the silence of the plug-in', async () => {
  await startWorker();
  await plugin.hear('a heartbeat', (message) => message.heartbeat);
  const beats = plugin.heard.length;
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2_000);
  await eventually('more heartbeats', () => plugin.heard.length > beats + 2);
  expect(plugin.hellos).toHaveLength(1);
});

describe('a self-test', () => {
  it('is answered over the stream', async () => {
    await startWorker();
    await plugin.hear('Hello', (message) => message.hello);
    plugin.say({ runSelfTest: { testId: 't', sentAt: timestampToWire(new Date()), targets: [] } });
    const report = await plugin.hear('the report', (message) => message.selfTestReport);
    expect(report.testId).toBe('t');
    expect(report.result?.cells.map((cell) => [cell.check, cell.verdict])).toContainEqual([
      'SELF_TEST_CHECK_CLOCK',
      'SELF_TEST_VERDICT_PASSED',
    ]);
  });
});

describe('new trust', () => {
  it('is kept, used and told at once', async () => {
    await startWorker();
    await plugin.hear('Hello', (message) => message.hello);
    plugin.say({ trustUpdate: { trustBundlePem: bundleOf(authority, next), renewCertificate: false } });
    const both = [fingerprintOf(authority.certificatePem), fingerprintOf(next.certificatePem)];
    await eventually('both are trusted', () => trusted()?.trustedCaFingerprints.length === 2);
    expect(trusted()?.trustedCaFingerprints).toEqual(both);
    expect(ProcessIdentity.load(path.join(folder, 'identity'))?.material.trustBundlePem).toBe(bundleOf(authority, next));
    expect(plugin.renewals).toBe(0);
  });

  it('with an order to renew brings a certificate of the new CA, with which it dials', async () => {
    await startWorker();
    const hello = await plugin.hear('Hello', (message) => message.hello);
    plugin.signer = next;
    plugin.bundlePem = bundleOf(authority, next);
    plugin.say({ trustUpdate: { trustBundlePem: plugin.bundlePem, renewCertificate: true } });
    await eventually('the certificate is new', () => trusted()?.issuerFingerprint === fingerprintOf(next.certificatePem));
    expect(trusted()?.serialNumber).not.toBe(hello.trust?.serialNumber);
    // New streams use it.
    plugin.identity.replace({ ...plugin.identity.material, trustBundlePem: bundleOf(authority, next) });
    plugin.drop();
    await eventually('a second stream', () => plugin.hellos.length === 2);
  });

  it('is tried again soon when the first try failed', async () => {
    await startWorker();
    await plugin.hear('Hello', (message) => message.hello);
    plugin.failingRenewals = 1;
    plugin.say({ trustUpdate: { trustBundlePem: '', renewCertificate: true } });
    await eventually('the certificate is new', () => ![undefined, plugin.hellos[0]?.trust?.serialNumber].includes(trusted()?.serialNumber));
    expect(plugin.renewals).toBe(2);
  });

  it('that is none is not taken', async () => {
    await startWorker();
    await plugin.hear('Hello', (message) => message.hello);
    plugin.say({ trustUpdate: { trustBundlePem: 'nothing of the kind', renewCertificate: false } });
    plugin.say({ trustUpdate: { trustBundlePem: identity.material.certificateChainPem, renewCertificate: false } });
    plugin.say({ drain: {} });
    await plugin.hear('Drained', (message) => message.drained);
    expect(identity.material.trustBundlePem).toBe(bundleOf(authority));
  });
});

describe('lines of the log', () => {
  it('of a worker VM go to the plug-in, redacted, also those from before the stream', async () => {
    const { logger } = await startWorker({ imageVersion: '1.2.3' });
    logger.warn('a disk was slow', { diskId: 'd', password: 'planted' });
    logger.info('of no interest');
    const { line } = await plugin.hear('the line', ({ logLines }) => {
      const found = logLines?.lines.find((one) => one.message === 'a disk was slow');
      return found && { line: found };
    });
    expect(line.level).toBe('warn');
    expect(JSON.parse(line.fieldsJson)).toEqual({ diskId: 'd', password: '[redacted]' });
    expect(JSON.stringify(plugin.heard)).not.toMatch(/planted|of no interest/);
  });

  it('of other workers stay where they are', async () => {
    const { logger } = await startWorker();
    logger.error('a disk was lost');
    await plugin.hear('a heartbeat', (message) => message.heartbeat);
    await plugin.hear('another', () => plugin.heard.filter((message) => message.heartbeat).length > 4);
    expect(plugin.heard.some((message) => message.logLines)).toBe(false);
  });
});

describe('a worker that is not wanted any more', () => {
  it('ends its tasks and tells whoever runs it', async () => {
    plugin.refusal = new TidemarkError(
      { code: 'IDENTITY_REVOKED', kind: 'failure', retry: 'never', status: 'PERMISSION_DENIED' },
      'the worker was removed',
    );
    await startWorker();
    await eventually('it is told', () => refusals.length > 0);
    expect(refusals[0]).toBe('IDENTITY_REVOKED');
  });

  it.each([
    ['of a CA that the plug-in does not trust any more', 'it hangs up when it sees our certificate', () => authority],
    ['and with trust of a CA that is gone', 'SELF_SIGNED_CERT_IN_CHAIN', () => next],
  ])('says with a code and advice that it comes with a certificate %s, and goes on asking', async (_what, why, trusted) => {
    const material = await issueIdentity(next, { role: 'worker', id: 'w1' }, []);
    identity = new ProcessIdentity({ ...material, trustBundlePem: bundleOf(trusted()) }, undefined);
    await startWorker();
    await eventually('it says so', () => logged.some(({ text }) => text === 'the plug-in refuses this worker'));
    const refusal = logged.find(({ text }) => text === 'the plug-in refuses this worker');
    expect(refusal?.fields).toMatchObject({ code: 'CERTIFICATE_NOT_ACCEPTED', error: { meta: { why } } });
    expect(String((refusal?.fields['error'] as Error).message)).toContain('tidemark worker enrol');
    // It may have been a plug-in that was just going down.
    expect(refusals).toEqual([]);
    identity.replace(await issueIdentity(authority, { role: 'worker', id: 'w1' }, []));
    await plugin.hear('Hello', (message) => message.hello);
  });

  it('knows so by itself when its certificate has ended', async () => {
    identity = new ProcessIdentity(await issueIdentity(authority, { role: 'worker', id: 'w1' }, [], -1_000), undefined);
    await startWorker();
    await eventually('it is told', () => refusals.length > 0);
    expect(refusals[0]).toBe('IDENTITY_EXPIRED');
  });
});
