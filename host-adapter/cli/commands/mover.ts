import type { Command } from 'commander';
import type { z } from 'zod';
import type * as S from '../../console/schemas';
import { usage } from '../cli-failure';
import type { CommandContext, CommandHost } from '../context';
import { setUpMover, type SetUpOptions } from '../mover-set-up';
import { formatTime } from '../output';

type Mover = z.infer<typeof S.Mover>;
type Token = z.infer<typeof S.MoverToken>;

const at = (id: string) => `/movers/${encodeURIComponent(id)}`;

/** mover, gateway: enrol, list, show, drain, resume, remove; mover edit. */
export function moverCommands(program: Command, host: CommandHost): void {
  const mover = program.command('mover').description('data movers: beside repositories, and gateways');
  const gateway = program
    .command('gateway')
    .description('movers that carry data to buckets, shares, and machines that may run no services');
  for (const [noun, command] of [
    ['mover', mover],
    ['gateway', gateway],
  ] as const) {
    listCommands(command, host, noun);
    changeCommands(command, host, noun);
  }
  enrolOnEitherSide(mover, host);
  const enrol = gateway
    .command('enrol')
    .description('print a one-time token for a gateway, and the command to run on its machine')
    .option('--minutes <n>', 'life of the token', '10')
    .option('--again <id>', 'for a gateway that is enrolled already and lost its certificate')
    .addHelpText('after', '\nExample:\n  tidemark gateway enrol > token    # on the server; then run what it says on the gateway');
  host.run<TokenOptions>(enrol, (context, options) => printToken(context, options, true));
  const edit = mover
    .command('edit <mover>')
    .description('make a mover a gateway, or not')
    .requiredOption('--gateway <on|off>')
    .addHelpText('after', '\nExample:\n  tidemark mover edit vault-1 --gateway on');
  host.run<{ gateway: string }>(edit, async ({ api, output }, options, id = '') => {
    if (options.gateway !== 'on' && options.gateway !== 'off') throw usage('--gateway: on or off');
    const m = await api.patch<Mover>(at(id), { gateway: options.gateway === 'on' });
    output.done(`mover ${m.hostName} is ${m.gateway ? 'a' : 'no'} gateway`, m);
  });
}

function listCommands(command: Command, host: CommandHost, noun: 'mover' | 'gateway'): void {
  host.run(command.command('list').description(`list ${noun}s`), async ({ api, output }) => {
    const { items } = await api.get<{ items: Mover[] }>('/movers', noun === 'gateway' ? { gateway: true } : {});
    output.list(
      items,
      [
        { title: noun, value: (m) => m.id },
        { title: 'host', value: (m) => m.hostName },
        { title: 'state', value: stateOf },
        ...(noun === 'mover' ? [{ title: 'gateway', value: (m: Mover) => (m.gateway ? 'yes' : 'no') }] : []),
        { title: 'sessions', align: 'right', value: (m) => m.openSessionCount },
        { title: 'repositories', value: (m) => m.repositories.join(', ') },
        { title: 'data port', value: (m) => m.dataEndpoints.join(', ') },
        { title: 'version', value: (m) => m.version },
        { title: 'last seen', value: (m) => formatTime(m.lastSeenAt) },
      ],
      `no ${noun} is enrolled; run: tidemark ${noun} enrol`,
    );
  });
  host.run(command.command(`show <${noun}>`).description(`show a ${noun}`), async ({ api, output }, _options, id = '') => {
    const m = await api.get<Mover>(at(id));
    output.show(m, [
      [noun, m.id],
      ['host', m.hostName],
      ['state', stateOf(m)],
      ['gateway', m.gateway ? 'yes' : 'no'],
      ['sessions', m.openSessionCount],
      ['repositories', m.repositories.join(', ')],
      ['control', m.controlEndpoint],
      ['data port', m.dataEndpoints.join(', ')],
      ['version', m.version],
      ['last seen', formatTime(m.lastSeenAt)],
    ]);
  });
}

function changeCommands(command: Command, host: CommandHost, noun: 'mover' | 'gateway'): void {
  for (const [verb, text] of [
    ['drain', `give a ${noun} no new sessions; running ones end`],
    ['resume', `give a drained ${noun} sessions again`],
  ] as const) {
    host.run(command.command(`${verb} <${noun}>`).description(text), async ({ api, output }, _options, id = '') => {
      const m = await api.post<Mover>(`${at(id)}/${verb}`);
      output.done(
        `${noun} ${m.hostName} is ${stateOf(m)}${m.drainingSince === null ? '' : `; ${m.openSessionCount} sessions still run`}`,
        m,
      );
    });
  }
  const remove = command
    .command(`remove <${noun}>`)
    .description(`forget a ${noun} that nothing needs any more: it gets no certificate; its data stays`)
    .addHelpText('after', `\nExample:\n  tidemark ${noun} drain edge-1 && tidemark ${noun} remove edge-1`);
  host.run(remove, async ({ api, output }, _options, id = '') => {
    await api.delete(at(id));
    output.done(`${noun} ${id} is removed`, { id });
  });
}

interface TokenOptions {
  readonly minutes: string;
  readonly again?: string;
}

/** On the server it prints a token; with --server it sets this machine up. */
function enrolOnEitherSide(mover: Command, host: CommandHost): void {
  const enrol = mover
    .command('enrol')
    .description('on the server: print a one-time token; with --server, on another machine: make it a mover of that server')
    .option('--minutes <n>', 'life of the token', '10')
    .option('--again <id>', 'for a mover that is enrolled already and lost its certificate')
    .option('--gateway', 'the mover carries data to buckets, shares and machines that may run no services')
    .option('--server <host:port>', "set this machine up: the server's port for processes (8444 unless told)")
    .option('--enrolment <host:port>', "the server's enrolment port (8449 on the same host unless told)")
    .option('--token-file <file>', 'the token that the server printed; - reads it from standard input')
    .option('--address <name>', 'name or address of this machine, the first one is announced; repeat for more', collect, [])
    .option('--data-folder <folder>', 'where the mover keeps its identity and caches', '/var/lib/tidemark/mover')
    .option('--config <file>', 'where its configuration is written', '/etc/tidemark/mover.json')
    .option('--install-unit', 'install and start the systemd unit (needs root)')
    .addHelpText(
      'after',
      '\nExample:\n  tidemark mover enrol > token                                            # on the server\n' +
        '  tidemark mover enrol --server backup.example --token-file token --install-unit   # where the repository is',
    );
  host.run<TokenOptions & SetUpOptions & { gateway?: boolean; server?: string }>(enrol, async (context, options) => {
    if (options.server === undefined) return printToken(context, options, options.gateway === true);
    const { server } = options;
    return setUpMover(context, { ...options, server });
  });
}

async function printToken({ api, output }: CommandContext, options: TokenOptions, gateway: boolean): Promise<void> {
  const token = await api.post<Token>('/movers/enrolment-tokens', {
    lifetimeMinutes: Number(options.minutes),
    gateway,
    ...(options.again === undefined ? {} : { again: options.again }),
  });
  if (output.json) return output.object(token);
  output.stdout.write(`${token.token}\n`);
  output.note(`valid once, until ${token.expiresAt}; on the ${gateway ? 'gateway' : 'machine with the repository'} run:`);
  output.note(
    `  tidemark mover enrol --server ${token.controlEndpoint} --enrolment ${token.enrolmentEndpoint} --token-file FILE --install-unit`,
  );
}

function stateOf({ state, drainingSince, openSessionCount }: Mover): string {
  if (drainingSince === null || state !== 'connected') return state;
  return openSessionCount === 0 ? 'drained' : 'draining';
}

function collect(value: string, before: readonly string[]): string[] {
  return [...before, value];
}
