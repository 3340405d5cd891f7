import type { Command } from 'commander';
import type { z } from 'zod';
import type * as S from '../../console/schemas';
import type { CommandHost } from '../context';
import { formatTime } from '../output';
import { enrolCommand } from './enrol';

type Plugin = z.infer<typeof S.Plugin>;

/** plugin: list, enrol, show, enable, disable. */
export function processCommands(program: Command, host: CommandHost): void {
  const plugin = program.command('plugin').description('plug-ins that connect hypervisor platforms');
  host.run(plugin.command('list').description('list plug-ins'), async ({ api, output }) => {
    const { items } = await api.get<{ items: Plugin[] }>('/plugins');
    output.list(
      items,
      [
        { title: 'plug-in', value: (p) => p.id },
        { title: 'kind', value: (p) => p.pluginId },
        { title: 'enabled', value: (p) => (p.enabled ? 'yes' : 'no') },
        { title: 'state', value: (p) => p.state },
        { title: 'host', value: (p) => p.hostName },
        { title: 'version', value: (p) => p.version },
        { title: 'last seen', value: (p) => formatTime(p.lastSeenAt) },
      ],
      'no plug-in is enrolled; run: tidemark plugin enrol',
    );
  });
  host.run(plugin.command('show <plug-in>').description('show a plug-in'), async ({ api, output }, _options, id = '') => {
    const p = await api.get<Plugin>(`/plugins/${encodeURIComponent(id)}`);
    output.show(p, [
      ['plug-in', p.id],
      ['kind', p.pluginId],
      ['enabled', p.enabled ? 'yes' : 'no'],
      ['state', p.state],
      ['endpoint', p.endpoint],
      ['workers dial', p.workerEndpoint],
      ['version', p.version],
      ['speaks', p.protocols.join(', ')],
      ['last seen', formatTime(p.lastSeenAt)],
    ]);
  });
  for (const verb of ['enable', 'disable'] as const) {
    const text = verb === 'enable' ? 'let the server use a plug-in' : 'stop using a plug-in';
    const command = plugin
      .command(`${verb} <plug-in>`)
      .description(text)
      .addHelpText('after', `\nExample:\n  tidemark plugin ${verb} ovirt`);
    host.run(command, async ({ api, output }, _options, id = '') => {
      const p = await api.post<Plugin>(`/plugins/${encodeURIComponent(id)}/${verb}`);
      output.done(`plug-in ${p.id} is ${verb}d`, p);
    });
  }
  enrolCommand(plugin, host, 'plugin');
}
