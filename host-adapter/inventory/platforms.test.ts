import { CommonErrors } from '../../common/errors/common-errors';
import type { PlatformRow, PlatformStore } from '../catalogue/platform-store';
import type { PluginClient, PluginConnections } from '../registry/plugin-connections';
import { Platforms } from './platforms';

const rows: PlatformRow[] = [
  { id: 'p-1', name: 'east', pluginId: 'one' },
  { id: 'p-2', name: 'west', pluginId: 'two' },
];

function platforms(failure: Error): Platforms {
  const client = (id: string, call: () => Promise<object>) => ({ id, platforms: { call } }) as unknown as PluginClient;
  const usable = async () => [
    client('one', () => Promise.reject(failure)),
    client('two', async () => ({ platforms: [{ platformId: 'p-2', name: 'west' }] })),
  ];
  const store = { all: async () => rows, put: async () => undefined } as unknown as PlatformStore;
  return new Platforms(store, { usable } as unknown as PluginConnections);
}

describe('platforms of several plug-ins', () => {
  it('are listed although one plug-in does not answer; its own are known by name', async () => {
    const list = await platforms(CommonErrors.PEER_UNAVAILABLE({ peer: 'one' })).list();
    expect(list.map(({ row, platform }) => [row.name, platform?.platformId])).toEqual([
      ['east', undefined],
      ['west', 'p-2'],
    ]);
  });

  it('are not guessed when a plug-in answers with a defect', async () => {
    await expect(platforms(CommonErrors.INTERNAL({ what: 'listing' })).list()).rejects.toMatchObject({ code: 'INTERNAL' });
  });
});
