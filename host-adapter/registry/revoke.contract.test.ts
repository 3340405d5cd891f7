import { randomUUID } from 'node:crypto';
import type { PluginRegistryServiceDefinition } from '../../proto/gen/tidemark/host/v1/PluginRegistryService';
import type { FakePlugin } from '../testing/fake-plugin';
import { enrolStranger, hostClient, quick, until } from '../testing/fake-process';
import { TestInstallation } from '../testing/test-installation';

describe('cert revoke', () => {
  const at = new TestInstallation();
  let plugin: FakePlugin;
  let moverId: string;
  let jobId: string;

  beforeAll(async () => {
    await at.start();
    await at.login();
    ({ plugin, jobId } = await at.furnish());
    moverId = ((await at.api('GET', '/movers')).body as { items: { id: string }[] }).items[0]?.id ?? '';
  });
  afterAll(() => at.remove());

  const revoke = (id: string) => at.api('POST', '/certificates/revoke', { id });
  const stateOf = async (url: string) => ((await at.api('GET', url)).body as { state: string }).state;

  it.each([
    ['mover', 'repository main', () => moverId],
    ['plug-in', 'platform east', () => plugin.id],
  ])('is refused for a %s that is needed, with the reason; it goes on', async (_what, usedBy, id) => {
    const answer = await revoke(id());
    expect(answer).toMatchObject({ status: 409, body: { code: 'IN_USE', retry: 'after-operator' } });
    expect(answer.body['message']).toContain(`is used by ${usedBy}. Remove or change that first.`);
    expect([await stateOf(`/movers/${moverId}`), await stateOf(`/plugins/${plugin.id}`)]).toEqual(['connected', 'connected']);
    const { body } = await at.api('POST', `/jobs/${jobId}/run`, {});
    const ended = await at.ended((body as { id: string }).id);
    expect(ended).toMatchObject({ state: 'success' });
  });

  it('is done once nothing needs it, and nobody lists it any more', async () => {
    expect((await at.api('DELETE', `/jobs/${jobId}`)).status).toBe(204);
    expect((await at.api('DELETE', '/platforms/east')).status).toBe(204);
    expect((await revoke(plugin.id)).status).toBe(204);
    expect((await at.api('DELETE', '/repositories/main')).status).toBe(204);
    expect((await revoke(moverId)).status).toBe(204);
    const shown = await until(async () => {
      const { items } = (await at.api('GET', '/certificates')).body as { items: { kind: string }[] };
      return items.every(({ kind }) => kind !== 'mover' && kind !== 'plugin') && items;
    });
    expect(shown.map(({ kind }) => kind)).toContain('ca');
    for (const url of [`/movers/${moverId}`, `/plugins/${plugin.id}`]) expect((await at.api('GET', url)).status).toBe(404);
  });

  describe('of a plug-in', () => {
    const token = async () => ((await at.api('POST', '/plugins/enrolment-tokens', {})).body as { token: string }).token;
    const registration = {
      process: { instanceId: 'an-instance', bootId: 'b', protocols: ['tidemark.plugin.v1'], hostName: 'h', version: '1' },
      pluginId: 'fake',
      endpoint: '127.0.0.1:1',
      workerEndpoint: '127.0.0.1:2',
      workerEnrolmentEndpoint: '127.0.0.1:3',
    };
    const closing: { close(): void }[] = [];
    const enrolled = async () => {
      const identity = await enrolStranger(at.endpoints.enrolment, await token());
      const { control } = at.endpoints;
      const client = hostClient<PluginRegistryServiceDefinition>('plugin_registry_service', 'PluginRegistryService', control, identity);
      closing.push(client);
      return { id: identity.self.id, client };
    };
    afterAll(() => closing.forEach((client) => client.close()));

    it('keeps it from enrolling workers, although its certificate is good, and lets it come back under another identity', async () => {
      const { id, client } = await enrolled();
      await client.call('RegisterPlugin', registration, quick);
      const wanted = { requestId: randomUUID(), workerId: randomUUID(), lifetime: { seconds: '60', nanos: 0 } };
      await client.call('CreateWorkerToken', wanted, quick);
      expect((await revoke(id)).status).toBe(204);
      const refused = { code: 'IDENTITY_REVOKED' };
      await expect(client.call('CreateWorkerToken', { ...wanted, requestId: randomUUID() }, quick)).rejects.toMatchObject(refused);
      await expect(client.call('CreateProbePaths', {}, quick)).rejects.toMatchObject(refused);
      await expect(client.call('RevokeWorker', { workerId: wanted.workerId }, quick)).rejects.toMatchObject(refused);
      const again = await enrolled();
      expect((await again.client.call('RegisterPlugin', registration, quick)).leaseId).not.toBe('');
      const stranger = await enrolled();
      await expect(stranger.client.call('RegisterPlugin', registration, quick)).rejects.toMatchObject({
        code: 'PLUGIN_INSTANCE_TAKEN',
        message: expect.stringContaining(`--again ${again.id}`) as string,
      });
    });
  });
});
