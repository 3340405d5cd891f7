import fs from 'node:fs';
import type { Command } from 'commander';
import type { z } from 'zod';
import type * as S from '../../console/schemas';
import { usage } from '../cli-failure';
import type { CommandHost } from '../context';
import { readPassword } from '../passwords';
import type { PasswordOptions } from '../passwords';
import { RestClient } from '../rest-client';

type LoginReply = z.infer<typeof S.LoginReply>;

/** login, logout, password. */
export function accessCommands(program: Command, host: CommandHost): void {
  const login = program
    .command('login')
    .description('log in to a server and remember the token')
    .requiredOption('--server <url>', 'e.g. https://backup.example:8443')
    .requiredOption('--ca <file>', "the server's CA (ca.pem in its data folder)")
    .option('--user <name>', 'user', 'admin')
    .option('--password-file <file>', 'file that holds the password')
    .option('--password-stdin', 'read the password from standard input')
    .addHelpText('after', '\nExample:\n  tidemark login --server https://backup.example:8443 --ca ca.pem --user admin');
  host.run<{ server: string; ca: string; user: string } & PasswordOptions>(login, async ({ process, settings, output }, options) => {
    let caPem: string;
    try {
      caPem = fs.readFileSync(options.ca, 'utf8');
    } catch (error) {
      throw usage(`--ca: ${(error as Error).message}`);
    }
    if (!URL.canParse(options.server)) throw usage('--server: not a URL');
    const password = await readPassword(process, options, `Password of ${options.user}: `);
    const client = new RestClient({ server: options.server, caPem });
    try {
      const reply = await client.post<LoginReply>('/login', { user: options.user, password });
      settings.save({ server: options.server, caPem, token: reply.token });
      output.done(`logged in as ${reply.user} until ${reply.expiresAt}`, { user: reply.user, expiresAt: reply.expiresAt });
    } finally {
      await client.close();
    }
  });

  host.run(program.command('logout').description('end the login and forget the token'), async ({ api, settings, output }) => {
    await api.post('/logout');
    settings.remove();
    output.done('logged out', {});
  });

  const password = program
    .command('password')
    .description('change the own password; asks for both')
    .option('--current-file <file>')
    .option('--new-file <file>');
  host.run<{ currentFile?: string; newFile?: string }>(password, async ({ process, api, output }, options) => {
    const ask = (file: string | undefined, prompt: string) =>
      readPassword(process, file === undefined ? {} : { passwordFile: file }, prompt);
    const currentPassword = await ask(options.currentFile, 'Current password: ');
    const newPassword = await ask(options.newFile, 'New password: ');
    await api.post('/password', { currentPassword, newPassword });
    output.done('password changed', {});
  });
}
