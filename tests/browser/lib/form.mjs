// Fills in forms like a person.

// Wait for the message of the server after a form succeeded, or was refused.
export const told = (page, text) => page.locator('.notice[role=status]').filter({ hasText: text }).first().waitFor();
export const refused = (page, text) => page.locator('[role=alert]:not(.banner)').filter({ hasText: text }).first().waitFor();

export const press = (scope, name) => scope.getByRole('button', { name, exact: true }).click();

// Submits with the keyboard: an answer that arrives while a mouse button is down can move the
// form away from under it.
export const submit = (scope, name) => scope.getByRole('button', { name, exact: true }).press('Enter');

// Turns off validation by the browser, so that the server has to refuse the form.
export const unchecked = (form) => form.evaluate((form) => (form.noValidate = true));

// The card with this heading.
export const card = (page, name) => page.locator('section.card').filter({ has: page.getByRole('heading', { level: 2, name }) });

// Opens the confirmation of `name` in `scope`, and confirms it.
export async function confirm(scope, name) {
  await scope.locator('summary').filter({ hasText: name }).first().click();
  await press(scope, name);
}
