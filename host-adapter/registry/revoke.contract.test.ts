import type { FakePlugin } from '../testing/fake-plugin';
import { until } from '../testing/fake-process';
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
});
