import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import type { z } from 'zod';
import type * as S from '../../console/schemas';
import { usage } from '../cli-failure';
import type { CommandContext, CommandHost } from '../context';
import { ExitCode } from '../exit-code';
import { formatTime } from '../output';

type Certificate = z.infer<typeof S.Certificate>;
type RotationReply = z.infer<typeof S.RotationReply>;
type RotationState = z.infer<typeof S.RotationState>;

interface RotateOptions {
  readonly dryRun?: boolean;
  readonly wait?: boolean;
}

const waitMs = 5 * 60_000;
const pollMs = 2_000;
const kinds: Record<Certificate['kind'], string> = {
  ca: 'our CA',
  host: 'server',
  console: 'console',
  plugin: 'plug-in',
  mover: 'mover',
  worker: 'worker',
  'engine-ca': 'engine CA',
  'engine-web': 'engine web',
  'engine-proxy': 'engine imageio',
  'engine-host': 'host imageio',
};

/** cert: list, status, rotate, rotate-ca, revoke. */
export function certificateCommands(program: Command, host: CommandHost): void {
  const cert = program.command('cert').description('certificates of this installation, and those it depends on');
  const list = cert
    .command('list')
    .description('every certificate that matters, with the days left; exit code 3 when one ends soon')
    .option('--refresh', 'look at engines and hosts now')
    .addHelpText('after', '\nExample:\n  tidemark cert list --refresh');
  host.run<{ refresh?: boolean }>(list, async ({ api, output }, { refresh }) => {
    const { items } = await api.get<{ items: Certificate[] }>('/certificates', { refresh: refresh === true });
    output.list(
      items,
      [
        { title: 'certificate', value: (c) => kinds[c.kind] },
        { title: 'of', value: (c) => [c.name, c.platform].filter(Boolean).join(', ') },
        { title: 'state', value: (c) => c.state },
        { title: 'days left', value: (c) => c.daysLeft ?? undefined, align: 'right' },
        { title: 'until', value: (c) => formatTime(c.expiresAt) },
        { title: 'note', value: (c) => c.note || undefined },
      ],
      'there are no certificates',
    );
    return items.some((c) => c.state === 'expiring' || c.state === 'expired') ? ExitCode.warnings : ExitCode.success;
  });

  host.run(cert.command('status').description('how far a rotation is, and who is missing'), async ({ api, output }) => {
    const state = await api.get<RotationState>('/certificates/rotation');
    const { overlap, leavesSince, missing, finished } = state;
    output.show(state, [
      ['two CAs', overlap ? `since ${formatTime(overlap.startedAt)}, until ${formatTime(overlap.endsAt)} at the latest` : 'no'],
      ['trusted', state.authorities.join(', ')],
      ['certificates', leavesSince ? `issued anew since ${formatTime(leavesSince)}` : undefined],
      ['missing', missing.length > 0 ? nameAll(missing).slice(2) : 'nobody'],
      ['last rotation', finished ? `ended ${formatTime(finished.finishedAt)}` : undefined],
      ['must enrol again', finished?.missing.map((peer) => `${peer.name} (${peer.id})`).join(', ')],
    ]);
  });

  const revoke = cert
    .command('revoke <id>')
    .description('a plug-in, mover or worker is gone for good: no certificate for it any more')
    .addHelpText('after', '\nExample:\n  tidemark cert revoke 1df0b2c4-1cbb-4040-ad81-0766b55d6f8f');
  host.run(revoke, async ({ api, output }, _options, id = '') => {
    await api.post('/certificates/revoke', { id });
    output.done(`${id} gets no certificate any more`, { id });
  });

  const rotate = cert
    .command('rotate')
    .description('issue every certificate anew now; nothing is interrupted')
    .option('--dry-run', 'only tell who would get one')
    .option('--wait', 'until everybody who is connected has it')
    .addHelpText('after', '\nExample:\n  tidemark cert rotate --wait');
  host.run<RotateOptions>(rotate, async (context, options) => {
    const reply = await context.api.post<RotationReply>('/certificates/rotate', { dryRun: options.dryRun === true });
    return finish(context, options, reply, 'certificates are issued anew');
  });

  const rotateCa = cert
    .command('rotate-ca')
    .description('make a new CA; the old one is trusted until everybody has the new one')
    .option('--overlap-days <n>', 'longest time for which both are trusted', '30')
    .option('--dry-run', 'only tell who would be concerned')
    .option('--wait', 'until the old CA is gone, or only those who are not connected are missing')
    .addHelpText('after', '\nExample:\n  tidemark cert rotate-ca --overlap-days 14 --wait');
  host.run<RotateOptions & { overlapDays: string }>(rotateCa, async (context, options) => {
    const overlapDays = Number(options.overlapDays);
    if (!Number.isInteger(overlapDays) || overlapDays < 1 || overlapDays > 365) throw usage('--overlap-days: 1 to 365');
    const body = { overlapDays, dryRun: options.dryRun === true };
    const reply = await context.api.post<RotationReply>('/certificates/rotate-authority', body);
    return finish(
      context,
      options,
      reply,
      `a new CA is made; the old one is trusted until ${formatTime(reply.overlapEndsAt)} at the latest`,
    );
  });
}

async function finish(context: CommandContext, options: RotateOptions, reply: RotationReply, text: string): Promise<number> {
  const { output } = context;
  const off = reply.peers.filter((peer) => !peer.connected);
  if (reply.dryRun) {
    output.done(
      `${reply.peers.length} processes would take over at once or when they are back; ${off.length} are not connected${nameAll(off)}`,
      reply,
    );
    return ExitCode.success;
  }
  if (options.wait !== true) {
    output.done(`${text}; "tidemark cert list" shows how far it is`, reply);
    return ExitCode.success;
  }
  const state = await settled(context);
  const { missing } = state;
  if (missing.length === 0 && !state.overlap) {
    output.done('everybody has taken over', state);
    return ExitCode.success;
  }
  output.done(
    missing.length > 0 ? `still missing: ${nameAll(missing).slice(2)}` : 'everybody has taken over; the old CA goes in a moment',
    state,
  );
  return ExitCode.warnings;
}

/**
 * Waits until all is done, or only those who are not connected are missing, or for five minutes. Seen twice: to a server that stood still nobody is
 * connected until it has read what they sent meanwhile.
 */
export async function settled(
  { api, output }: { readonly api: Pick<CommandContext['api'], 'get'>; readonly output: Pick<CommandContext['output'], 'note'> },
  pause: (ms: number) => Promise<unknown> = sleep,
): Promise<RotationState> {
  let told = '';
  let wereAway = false;
  for (const end = performance.now() + waitMs; ;) {
    const state = await api.get<RotationState>('/certificates/rotation');
    const { missing, overlap } = state;
    const onlyAway = missing.length > 0 && missing.every((peer) => !peer.connected);
    if ((missing.length === 0 && !overlap) || (onlyAway && wereAway) || performance.now() > end) return state;
    wereAway = onlyAway;
    const text = `waiting for ${missing.length} processes${nameAll(missing)}`;
    if (text !== told && missing.length > 0) output.note(text);
    told = text;
    await pause(pollMs);
  }
}

function nameAll(peers: RotationReply['peers']): string {
  return peers.length === 0
    ? ''
    : `: ${peers.map((peer) => `${peer.role} ${peer.name}${peer.connected ? '' : ' (not connected)'}`).join(', ')}`;
}
