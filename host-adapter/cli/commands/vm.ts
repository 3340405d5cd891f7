import type { Command } from 'commander';
import type { z } from 'zod';
import type * as S from '../../console/schemas';
import type { CommandHost } from '../context';
import { ExitCode } from '../exit-code';
import { formatBytes, formatTime } from '../output';

type Vm = z.infer<typeof S.Vm>;
type VmDetail = z.infer<typeof S.VmDetail>;
type Verdict = z.infer<typeof S.PreflightVerdict>;

/** vm: list, show, preflight. */
export function vmCommands(program: Command, host: CommandHost): void {
  const vm = program.command('vm').description('virtual machines and how well they are protected');

  const list = vm
    .command('list')
    .description('list VMs with their protection state')
    .option('--platform <name>')
    .option('--select <expression>', 'e.g. "tag:prod and not name:test*"')
    .option('--protection <state>', 'protected, outdated, failed or unprotected')
    .addHelpText('after', '\nExample:\n  tidemark vm list --protection unprotected');
  host.run<{ platform?: string; select?: string; protection?: string }>(list, async ({ api, output }, { platform, select, protection }) => {
    const items: Vm[] = [];
    let pageToken: string | undefined;
    do {
      const page = await api.get<{ items: Vm[]; nextPageToken: string | null }>('/vms', {
        platform,
        select,
        protection,
        limit: 1000,
        pageToken,
      });
      items.push(...page.items);
      pageToken = page.nextPageToken ?? undefined;
    } while (pageToken !== undefined);
    output.list(
      items,
      [
        { title: 'VM', value: (v) => v.name },
        { title: 'status', value: (v) => v.status },
        { title: 'cluster', value: (v) => v.clusterName },
        { title: 'disks', align: 'right', value: (v) => v.diskCount },
        { title: 'size', align: 'right', value: (v) => formatBytes(v.provisionedBytes) },
        { title: 'protection', value: (v) => v.protection.state },
        { title: 'points', align: 'right', value: (v) => v.protection.pointCount },
        { title: 'last point', value: (v) => formatTime(v.protection.lastPointAt) },
      ],
      'no VM matches',
    );
  });

  host.run<{ platform?: string }>(
    vm.command('show <vm>').description('show a VM with disks and NICs').option('--platform <name>'),
    async ({ api, output }, { platform }, id = '') => {
      const v = await api.get<VmDetail>(`/vms/${encodeURIComponent(id)}`, { platform });
      output.show(v, [
        ['VM', v.name],
        ['id', v.id],
        ['status', v.status],
        ['cluster', `${v.clusterName} (level ${v.compatibilityLevel})`],
        ['tags', v.tags.join(', ')],
        ['protection', `${v.protection.state}, ${v.protection.pointCount} points, last ${formatTime(v.protection.lastPointAt)}`],
        ...v.disks.map(
          (d) =>
            [
              `disk ${d.name}`,
              `${formatBytes(d.provisionedBytes)} ${d.format}, ${formatBytes(d.actualBytes)} used, ${d.status} (${d.id})`,
            ] as const,
        ),
        ...v.nics.map((n) => [n.name, `${n.macAddress} on ${n.vnicProfileName || 'no profile'}${n.plugged ? '' : ', unplugged'}`] as const),
      ]);
    },
  );

  const preflight = vm
    .command('preflight <vm...>')
    .description('can these VMs be backed up, and how? changes nothing')
    .option('--platform <name>')
    .addHelpText('after', '\nExample:\n  tidemark vm preflight web db');
  host.run<{ platform?: string }>(preflight, async ({ api, output }, { platform }, ...words) => {
    const vms = words.flat();
    const { items } = await api.post<{ items: Verdict[] }>('/vms/preflight', { vms, ...(platform === undefined ? {} : { platform }) });
    if (output.json) output.object({ items });
    for (const verdict of output.json ? [] : items) {
      output.stdout.write(
        `${verdict.vmName}: ${verdict.canBackUp ? 'can be backed up' : verdict.retryLater ? 'not now' : 'cannot be backed up'}\n`,
      );
      for (const disk of verdict.disks) output.stdout.write(`  ${disk.name}: ${disk.mode}${disk.reason ? ` (${disk.reason})` : ''}\n`);
      for (const finding of verdict.findings) {
        output.stdout.write(`  ${finding.severity}: ${finding.message} [${finding.code}]${finding.advice ? ` ${finding.advice}` : ''}\n`);
      }
    }
    if (items.some((v) => !v.canBackUp)) return ExitCode.refused;
    return items.some((v) => v.findings.some((f) => f.severity === 'warning')) ? ExitCode.warnings : ExitCode.success;
  });
}
