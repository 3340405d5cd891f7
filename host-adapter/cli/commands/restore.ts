import path from 'node:path';
import type { Command } from 'commander';
import { usage } from '../cli-failure';
import type { CommandContext, CommandHost } from '../context';
import type { Session } from '../session-view';
import { watchSession } from '../watch-session';

const collect = (value: string, before: string[] = []) => [...before, value];

/** Reads repeated `from=to` options; `from=` means none. */
function mapping(option: string, pairs: readonly string[] = []): Record<string, string | null> {
  return Object.fromEntries(
    pairs.map((pair) => {
      const equals = pair.indexOf('=');
      if (equals < 1) throw usage(`${option}: "${pair}" is not FROM=TO`);
      return [pair.slice(0, equals), pair.slice(equals + 1) || null];
    }),
  );
}

async function start(context: CommandContext, kind: string, body: object, watch: boolean): Promise<number> {
  const session = await context.api.post<Session>(`/restores/${kind}`, body);
  if (!watch) {
    context.output.done(`session ${session.id} is running`, session);
    return 0;
  }
  return watchSession(context, session.id);
}

/** restore: vm, disk, file. */
export function restoreCommands(program: Command, host: CommandHost): void {
  const restore = program.command('restore').description('put VMs and disks back; never touches the original');
  const optional = (value: object) => Object.fromEntries(Object.entries(value).filter(([, entry]) => entry !== undefined));

  const vm = restore
    .command('vm <point>')
    .description('restore a VM as a new VM')
    .option('--name <name>', 'default: <name>-restored-<time>')
    .option('--platform <name>')
    .option('--cluster <name>')
    .option('--storage-domain <name>', 'for all disks not mapped one by one')
    .option('--map-storage <from=to>', 'stored storage domain id to one of the target, repeatable', collect)
    .option('--map-vnic-profile <from=to>', 'stored vNIC profile id to one of the target, empty for none, repeatable', collect)
    .option('--mac <policy>', 'keep, keep-if-free or new', 'keep-if-free')
    .option('--disk <name>', 'only these disks, repeatable', collect)
    .option('--power-on', 'start it when it is complete')
    .option('--transport <how>', 'auto, image-transfer or attachment', 'auto')
    .option('--no-watch', 'start it and return')
    .addHelpText('after', '\nExample:\n  tidemark restore vm 0f9c… --name web-copy --storage-domain data-2 --mac new --power-on');
  interface VmOptions {
    name?: string;
    platform?: string;
    cluster?: string;
    storageDomain?: string;
    mapStorage?: string[];
    mapVnicProfile?: string[];
    mac: string;
    disk?: string[];
    powerOn?: boolean;
    transport: string;
    watch: boolean;
  }
  host.run<VmOptions>(vm, (context, options, point = '') =>
    start(
      context,
      'vm',
      {
        point,
        ...optional({ name: options.name, platform: options.platform, cluster: options.cluster, storageDomain: options.storageDomain }),
        storageDomains: mapping('--map-storage', options.mapStorage),
        vnicProfiles: mapping('--map-vnic-profile', options.mapVnicProfile),
        macPolicy: options.mac,
        disks: options.disk ?? [],
        powerOn: options.powerOn === true,
        transport: options.transport,
      },
      options.watch,
    ),
  );

  const disk = restore
    .command('disk <point> <disk>')
    .description('restore one disk: as a new disk of a platform, or to a file on the server')
    .option('--storage-domain <name>', 'new disk on this storage domain')
    .option('--platform <name>')
    .option('--name <name>', 'of the new disk')
    .option('--to-file <path>', 'absolute path of a new file instead')
    .option('--format <format>', 'of the file: raw or qcow2', 'raw')
    .option('--transport <how>', 'of a new disk: auto, image-transfer or attachment', 'auto')
    .option('--no-watch', 'start it and return')
    .addHelpText(
      'after',
      '\nExample:\n  tidemark restore disk 0f9c… web-data --storage-domain data-2\n  tidemark restore disk 0f9c… web-data --to-file /var/tmp/web-data.qcow2 --format qcow2',
    );
  interface DiskOptions {
    storageDomain?: string;
    platform?: string;
    name?: string;
    toFile?: string;
    format: string;
    transport: string;
    watch: boolean;
  }
  host.run<DiskOptions>(disk, (context, options, point = '', which = '') => {
    if ((options.toFile === undefined) === (options.storageDomain === undefined)) throw usage('give either --storage-domain or --to-file');
    if (options.toFile !== undefined) {
      return start(context, 'file', { point, disk: which, path: path.resolve(options.toFile), format: options.format }, options.watch);
    }
    const { storageDomain, platform, name, transport } = options;
    return start(context, 'disk', { point, disk: which, storageDomain, transport, ...optional({ platform, name }) }, options.watch);
  });
}
