import type { Command } from 'commander';
import type { z } from 'zod';
import type * as S from '../../console/schemas';
import type { CommandHost } from '../context';

type Token = z.infer<typeof S.EnrolmentToken>;

/** `enrol` of a role. */
export function enrolCommand(noun: Command, host: CommandHost, role: 'plugin' | 'worker'): void {
  const command = noun
    .command('enrol')
    .description(`print a one-time token for a ${role}${role === 'worker' ? ' on a machine of your own' : ''}`)
    .option('--minutes <n>', 'life of the token', '10');
  if (role !== 'worker') command.option('--again <id>', `for a ${role} that is enrolled already and lost its certificate`);
  command.addHelpText(
    'after',
    `\nExample:\n  tidemark ${role} enrol > token    # on the server\n  tidemark ${role} --config ${role}.json    # where it runs, with tokenFile set`,
  );
  host.run<{ minutes: string; again?: string }>(command, async ({ api, output }, options) => {
    const token = await api.post<Token>(`/${role}s/enrolment-tokens`, {
      lifetimeMinutes: Number(options.minutes),
      ...(options.again === undefined ? {} : { again: options.again }),
    });
    if (output.json) return output.object(token);
    output.stdout.write(`${token.token}\n`);
    output.note(`valid once, until ${token.expiresAt}; enrol at ${token.enrolmentEndpoint}`);
  });
}
