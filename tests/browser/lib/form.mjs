// Filling forms as a person does.

// What the server says to a form that worked, and to one that did not.
export const told = (page, text) => page.locator('.notice[role=status]').filter({ hasText: text }).first().waitFor();
export const refused = (page, text) => page.locator('[role=alert]:not(.banner)').filter({ hasText: text }).first().waitFor();

export const press = (scope, name) => scope.getByRole('button', { name, exact: true }).click();

// Lets the browser send what it would refuse itself: the server has to.
export const unchecked = (form) => form.evaluate((form) => (form.noValidate = true));

// The card with this heading.
export const card = (page, name) => page.locator('section.card').filter({ has: page.getByRole('heading', { level: 2, name }) });

// Unfolds the confirmation of `name` in `scope`, and confirms.
export async function confirm(scope, name) {
  await scope.locator('summary').filter({ hasText: name }).first().click();
  await press(scope, name);
}
