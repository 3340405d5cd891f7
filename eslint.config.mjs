import tseslint from 'typescript-eslint';

const ourErrors = {
  selector: "ThrowStatement > NewExpression[callee.name='Error']",
  message: 'Throw a TidemarkError from a declared namespace: callers branch on codes.',
};

export default tseslint.config(
  { ignores: ['dist/**', 'proto/gen/**', 'node_modules/**', '.venv/**', '.cache/**', '**/*.js', '**/*.cjs', '**/*.mjs', '*.config.ts'] },
  ...tseslint.configs.recommendedTypeChecked,
  {
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/no-misused-promises': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_', caughtErrorsIgnorePattern: '^_' }],
      // Handlers of one interface are async although some have nothing to wait for.
      '@typescript-eslint/require-await': 'off',
      // Ids and numbers in messages are wanted.
      '@typescript-eslint/restrict-template-expressions': 'off',
      '@typescript-eslint/only-throw-error': 'off',
      '@typescript-eslint/prefer-promise-reject-errors': 'off',
      'no-restricted-syntax': ['error', ourErrors],
      'max-lines': ['error', { max: 600, skipBlankLines: true, skipComments: true }],
    },
  },
  { files: ['lab/**', 'scripts/**', 'test/**', '**/*.test.ts', '**/testing/**'], rules: { 'no-restricted-syntax': 'off' } },
  {
    files: ['**/*.test.ts', '**/testing/**'],
    rules: {
      '@typescript-eslint/no-unsafe-assignment': 'off',
      '@typescript-eslint/no-unsafe-member-access': 'off',
      '@typescript-eslint/no-unsafe-argument': 'off',
      '@typescript-eslint/no-unsafe-call': 'off',
      '@typescript-eslint/no-unsafe-return': 'off',
    },
  },
);
